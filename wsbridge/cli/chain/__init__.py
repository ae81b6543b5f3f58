"""`wsbridge chain`: the whole chain on this machine, from a backend through Kafka and Dapr to two bridges.

The tests of the real chain use the same processes, ports, settings of Kafka and flags of daprd.
"""
