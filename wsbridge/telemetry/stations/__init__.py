"""Stations: what happened to each recent event, where and when. `wsbridge why` answers from them."""
