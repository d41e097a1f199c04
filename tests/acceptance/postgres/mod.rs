//! A warehouse on a PostgreSQL server.

mod settings;
