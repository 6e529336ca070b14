# SPDX-License-Identifier: MIT
"""What tests of tools/gdb_fibril.py share: gdb asks a program that ends by abort(), and its core files.

gdb 13 leaves out of its core files what follows a guard page by MADV_GUARD_INSTALL, which it cannot read; the
kernel's have it all. So for gdb's the guards are made by mprotect.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77


class Asked(unittest.TestCase):
    """What must hold live and of core files alike; self.text is what gdb printed."""

    text = ""

    def setUp(self):
        if not self.text:
            self.skipTest("the kernel writes no core file where the program is")


class Session:
    """gdb, the script, and a command that aborts."""

    def __init__(self, script, *command, environment=()):
        if not shutil.which("gdb"):
            print("gdb is not here")
            sys.exit(SKIPPED)
        self.script, self.command = script, command
        self.environment = dict(os.environ, FIBRIL_POLLER="epoll", LC_ALL="C", **dict(environment))
        self.environment.pop("FIBRIL_GUARD_MPROTECT", None)
        self.folder = tempfile.TemporaryDirectory()
        self.core = os.path.join(self.folder.name, "saved")

    def ask(self, *commands, core=None):
        """What gdb prints."""
        arguments = ["gdb", "-q", "-nx", "-batch", "-ex", "set width 0", "-ex", "set confirm off",
                     "-ex", "set debuginfod enabled off", "-ex", "source " + self.script]
        for command in commands:
            arguments += ["-ex", command]
        arguments += [self.command[0], core] if core else ["--args", *self.command]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              env=dict(self.environment, FIBRIL_GUARD_MPROTECT="1"), timeout=200,
                              check=False)
        return done.stdout

    def before_core(self):
        """What the list is where the program aborts; gdb's core file is left for later."""
        text = self.ask("run", "fibril list", "generate-core-file " + self.core)
        if not os.path.exists(self.core):
            print(text)
            print("gdb cannot run programs here, or write their core files")
            sys.exit(SKIPPED if "ptrace" in text or "Python" in text else 1)
        return text

    def kernel_core(self):
        """The core file that the kernel writes when the program aborts, or None."""
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        subprocess.run([os.path.abspath(self.command[0]), *self.command[1:]], cwd=self.folder.name,
                       env=self.environment, timeout=60, check=False, stderr=subprocess.DEVNULL,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (hard, hard)))
        found = [name for name in os.listdir(self.folder.name) if name.startswith("core")]
        return os.path.join(self.folder.name, found[0]) if found else None

    def run_tests(self, questions, base):
        """Asks the live program and both core files, and runs the tests of base on each; whether all passed."""
        kernel_core = self.kernel_core()
        texts = {"Live": self.ask("run", *questions), "Core": self.ask(*questions, core=self.core),
                 "KernelCore": self.ask(*questions, core=kernel_core) if kernel_core else ""}
        suite = unittest.TestSuite()
        for where, text in texts.items():
            cases = type(where + base.__name__, (base,), {"text": text})
            suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(cases))
        passed = unittest.TextTestRunner(verbosity=1).run(suite).wasSuccessful()
        if not passed:
            print("\n".join("---- %s ----\n%s" % each for each in texts.items()))
        self.folder.cleanup()
        return passed
