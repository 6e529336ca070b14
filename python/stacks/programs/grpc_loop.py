# SPDX-License-Identifier: MIT
"""grpcio, whose C core has OS threads of its own: a server with a pool, clients that share a channel."""
import concurrent.futures
import time

import grpc

from common import count, crowd

n = count()


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        if details.method == "/s/Reverse":
            return grpc.unary_unary_rpc_method_handler(self.reverse)
        if details.method == "/s/Stream":
            return grpc.unary_stream_rpc_method_handler(self.stream)
        return None

    def reverse(self, request, context):
        time.sleep(0.2)
        return request[::-1]

    def stream(self, request, context):
        for b in request:
            time.sleep(0.01)
            yield bytes([b])


server = grpc.server(concurrent.futures.ThreadPoolExecutor(n))
server.add_generic_rpc_handlers((Service(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
channel = grpc.insecure_channel("127.0.0.1:%d" % port)
reverse, stream = channel.unary_unary("/s/Reverse"), channel.unary_stream("/s/Stream")


def call(i):
    word = b"call %d" % i
    return reverse(word, timeout=60) == word[::-1] and b"".join(stream(word, timeout=60)) == word


c = crowd(n, call)
try:
    channel.unary_unary("/s/Missing")(b"", timeout=10)
    missing = "answered"
except grpc.RpcError as e:
    missing = e.code().name
channel.close()
server.stop(None).wait(10)
c.report(right=sum(map(bool, c.results)), missing=missing)
