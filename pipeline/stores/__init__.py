"""Where videos lie: the adapters of the `ObjectStore` port.

They know keys and bytes. They do not know what is in the bytes, nor which task they belong to.
"""
