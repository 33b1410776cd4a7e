"""A recommendation service: events and items in a database, a model that answers over HTTP.

settings    what is configured          recommending, users, items   what can be asked, without HTTP
tables      the database's tables       core        what these share: store, engine, models
store       what a store keeps          service     start, end and models
sql_store   SQLite or PostgreSQL        api         routes, their limits and answers
engine      one pass for many requests  server      sockets, signals, logs
"""
