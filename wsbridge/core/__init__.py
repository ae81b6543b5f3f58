"""Events and positions, messages, frames and close codes, and the answer to a client that resumes.

Plain values and functions, which all other packages may import. Does no I/O.
"""
