"""HTTP routes for operators and browsers: health, stats, metrics, the client module, the demo page.

Errors of all routes become problem documents here.
"""
