# SPDX-License-Identifier: MIT
"""pika: half of the crowd answers requests from a queue of its own, the other half asks and waits for the reply.

Each thread has a connection of its own, as pika wants it.
"""
import os

import pika

from common import count, crowd

n = count()
parameters = pika.URLParameters(os.environ["STACK_AMQP"])


def answer(channel, name):
    for method, properties, body in channel.consume(name, inactivity_timeout=60):
        channel.basic_publish("", properties.reply_to, body.upper(),
                              pika.BasicProperties(correlation_id=properties.correlation_id))
        channel.basic_ack(method.delivery_tag)
        return body == name.encode()


def ask(channel, name):
    mine = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", name, name.encode(), pika.BasicProperties(reply_to=mine, correlation_id=name))
    for _, properties, body in channel.consume(mine, auto_ack=True, inactivity_timeout=60):
        return properties.correlation_id == name and body == name.upper().encode()


def work(i):
    name = "pair %d" % (i // 2)
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.queue_declare(name, auto_delete=False)
        return (answer if i % 2 else ask)(channel, name)
    finally:
        connection.close()


c = crowd(n, work)
c.report(right=sum(map(bool, c.results)))
