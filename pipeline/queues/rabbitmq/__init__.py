"""The queue on RabbitMQ, by its own protocol, on trio: no threads and no asyncio.

From the bottom: `delays` and `topology` are values, `adapter` is pika's connection on a stream of
trio's, `channel` makes its callbacks awaitable, `line` is one connection with its life, `lifeline`
opens it when it is needed, `receiver` takes one message at a time, and `queue` is the port.

It knows the broker and bytes. It does not know what a message means, nor who else is connected.
"""
