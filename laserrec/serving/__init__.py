"""A recommendation service: events and items in a database, a model that answers over HTTP.

settings    what is configured          engine      one pass over the model for many requests
tables      the database's tables       service     what can be asked of it, without HTTP
store       what a store keeps          api         routes, their limits and answers
sql_store   SQLite or PostgreSQL        server      sockets, signals, logs
"""
