"""A trained policy behind a websocket, and the client that a robot runs."""
