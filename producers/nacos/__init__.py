"""Nacos's protocols as its servers speak them: gRPC (2.x) and HTTP. No knowledge of Kafka or sessions."""
