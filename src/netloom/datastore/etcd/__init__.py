"""A store in etcd v3, for clusters of many machines.

    target      the setting, read: servers, prefix, certificates, user
    wire        protobuf's numbers and chunks
    messages    the few of etcd's messages that are needed: requests → bytes, bytes → answers
    layout      which key has which record
    line        a gRPC channel to one server, and its refusals in our words
    connection  one line at a time, and the next server when it is lost
    store       the Datastore: transactions, listings in pages, and whether this is still our store
    watch       changes in order, none missing, over lines that break

Why gRPC with messages of our own: docs/decisions/0015-etcd-by-grpc-without-protobuf.md.
"""
