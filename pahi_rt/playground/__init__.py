"""The page on which pictures follow what one types. `pahi-rt serve` shows it, and `pahi-rt embed web` copies it.

The page draws through a backend, which backend.js names: the server's WebSocket, or a Worker in the browser.
"""
