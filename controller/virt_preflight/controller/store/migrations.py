"""How the database came to be what it is: each step once, in this order, never changed later."""

# A step is its statements. The number of steps that a database has seen is its user_version.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE host (
            name TEXT NOT NULL PRIMARY KEY,
            address TEXT NOT NULL,
            labels TEXT NOT NULL CHECK (json_valid(labels)),
            agent_version TEXT NOT NULL,
            seen_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
)
