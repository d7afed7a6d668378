"""What travels between clients and a gateway, generated from the .proto files beside it."""
