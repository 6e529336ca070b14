/* SPDX-License-Identifier: MIT */
/* fibril doctor: what there is to work with, and what the POSIX layer covers in a program. */
#ifndef FIBRIL_CLI_DOCTOR_H
#define FIBRIL_CLI_DOCTOR_H

int doctor_main(int argc, char **argv);

#endif
