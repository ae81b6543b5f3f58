"""Good clients, misbehaving peers of every kind and an unread log at the same time, against one real bridge:

`make siege`.
"""
