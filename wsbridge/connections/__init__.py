"""TCP connections of untrusted peers: accepts them, limits them, and reads the head of each request.

Complete requests are passed on to aiohttp.
"""
