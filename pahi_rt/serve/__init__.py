"""`pahi-rt serve`: pictures over HTTP, in OpenAI's form and in our own, and a WebSocket that draws as one types.

One process has one event loop and one thread that draws. Data flows one way:

    request -> requests.py checks it -> queue.py holds it -> engine.py draws batches -> encode.py -> reply
"""
