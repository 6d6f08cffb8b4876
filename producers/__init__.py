"""From Nacos to registry events: the protocol in `nacos`, the listener in `listener`."""
