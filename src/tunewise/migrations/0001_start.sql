-- A run: what was asked and answered, what the test read, what was fixed once. Rows are only ever added.

CREATE TABLE meta (
    seq   INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    value TEXT NOT NULL,
    hash  TEXT NOT NULL
);

-- One opening of the store by one process. Wall time of a run = sum over sessions of the latest `at`.
CREATE TABLE sessions (
    seq     INTEGER PRIMARY KEY,
    started TEXT    NOT NULL, -- UTC, ISO 8601
    pid     INTEGER NOT NULL,
    host    TEXT    NOT NULL,
    version TEXT    NOT NULL,
    hash    TEXT    NOT NULL
);

-- Answers that stand: one per request identity, never asked for again.
CREATE TABLE calls (
    seq        INTEGER PRIMARY KEY,
    key        TEXT    NOT NULL UNIQUE, -- Request.key(door)
    session    INTEGER NOT NULL REFERENCES sessions (seq),
    at         REAL    NOT NULL, -- seconds since the session started
    door       TEXT    NOT NULL, -- fingerprint
    purpose    TEXT    NOT NULL,
    rung       TEXT    NOT NULL,
    request    TEXT    NOT NULL, -- JSON: messages, decoding, tag
    text       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    finish     TEXT    NOT NULL,
    tokens_in  INTEGER,
    cached_in  INTEGER,
    tokens_out INTEGER,
    seconds    REAL    NOT NULL,
    usd        REAL,
    upper_usd  REAL, -- what was reserved; stands for `usd` where the door could not tell it
    error      TEXT,
    hash       TEXT    NOT NULL
);

-- Calls whose answer does not stand: errored, or a second answer to one request. Kept for the account.
CREATE TABLE failures (
    seq        INTEGER PRIMARY KEY,
    key        TEXT    NOT NULL,
    session    INTEGER NOT NULL REFERENCES sessions (seq),
    at         REAL    NOT NULL,
    door       TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    rung       TEXT    NOT NULL,
    request    TEXT    NOT NULL,
    text       TEXT    NOT NULL,
    status     TEXT    NOT NULL,
    finish     TEXT    NOT NULL,
    tokens_in  INTEGER,
    cached_in  INTEGER,
    tokens_out INTEGER,
    seconds    REAL    NOT NULL,
    usd        REAL,
    upper_usd  REAL,
    error      TEXT,
    hash       TEXT    NOT NULL
);
CREATE INDEX failures_by_key ON failures (key);

-- What the sequential tests read. The latest row of a (rung, position) stands: an errored item may be asked again.
CREATE TABLE outcomes (
    seq        INTEGER PRIMARY KEY,
    session    INTEGER NOT NULL REFERENCES sessions (seq),
    at         REAL    NOT NULL,
    rung       TEXT    NOT NULL,
    position   INTEGER NOT NULL,
    example    TEXT    NOT NULL,
    call       TEXT, -- key in calls, or in failures when errored
    status     TEXT    NOT NULL,
    value      REAL,
    text       TEXT    NOT NULL,
    tokens_in  INTEGER,
    tokens_out INTEGER,
    seconds    REAL    NOT NULL,
    usd        REAL,
    detail     TEXT    NOT NULL, -- JSON
    error      TEXT,
    hash       TEXT    NOT NULL
);
CREATE INDEX outcomes_by_place ON outcomes (rung, position, seq);

-- Costs that are not calls (training on a machine with a price).
CREATE TABLE costs (
    seq     INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (seq),
    at      REAL    NOT NULL,
    rung    TEXT    NOT NULL,
    what    TEXT    NOT NULL,
    usd     REAL    NOT NULL,
    hash    TEXT    NOT NULL
);

-- Fixed once (rung list, order, levels): later runs of the same folder read what the first one wrote.
CREATE TABLE frozen (
    seq     INTEGER PRIMARY KEY,
    name    TEXT    NOT NULL UNIQUE,
    session INTEGER NOT NULL REFERENCES sessions (seq),
    at      REAL    NOT NULL,
    value   TEXT    NOT NULL, -- JSON
    hash    TEXT    NOT NULL
);

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    session INTEGER NOT NULL REFERENCES sessions (seq),
    at      REAL    NOT NULL,
    event   TEXT    NOT NULL,
    facts   TEXT    NOT NULL, -- JSON
    hash    TEXT    NOT NULL
);

CREATE TRIGGER meta_no_update BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'append-only: meta'); END;
CREATE TRIGGER meta_no_delete BEFORE DELETE ON meta BEGIN SELECT RAISE(ABORT, 'append-only: meta'); END;
CREATE TRIGGER meta_no_replace BEFORE INSERT ON meta WHEN EXISTS (SELECT 1 FROM meta WHERE name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'append-only: meta'); END;
CREATE TRIGGER sessions_no_update BEFORE UPDATE ON sessions BEGIN SELECT RAISE(ABORT, 'append-only: sessions'); END;
CREATE TRIGGER sessions_no_delete BEFORE DELETE ON sessions BEGIN SELECT RAISE(ABORT, 'append-only: sessions'); END;
CREATE TRIGGER calls_no_update BEFORE UPDATE ON calls BEGIN SELECT RAISE(ABORT, 'append-only: calls'); END;
CREATE TRIGGER calls_no_delete BEFORE DELETE ON calls BEGIN SELECT RAISE(ABORT, 'append-only: calls'); END;
CREATE TRIGGER calls_no_replace BEFORE INSERT ON calls WHEN EXISTS (SELECT 1 FROM calls WHERE key = NEW.key)
BEGIN SELECT RAISE(ABORT, 'append-only: calls'); END;
CREATE TRIGGER failures_no_update BEFORE UPDATE ON failures BEGIN SELECT RAISE(ABORT, 'append-only: failures'); END;
CREATE TRIGGER failures_no_delete BEFORE DELETE ON failures BEGIN SELECT RAISE(ABORT, 'append-only: failures'); END;
CREATE TRIGGER outcomes_no_update BEFORE UPDATE ON outcomes BEGIN SELECT RAISE(ABORT, 'append-only: outcomes'); END;
CREATE TRIGGER outcomes_no_delete BEFORE DELETE ON outcomes BEGIN SELECT RAISE(ABORT, 'append-only: outcomes'); END;
CREATE TRIGGER costs_no_update BEFORE UPDATE ON costs BEGIN SELECT RAISE(ABORT, 'append-only: costs'); END;
CREATE TRIGGER costs_no_delete BEFORE DELETE ON costs BEGIN SELECT RAISE(ABORT, 'append-only: costs'); END;
CREATE TRIGGER frozen_no_update BEFORE UPDATE ON frozen BEGIN SELECT RAISE(ABORT, 'append-only: frozen'); END;
CREATE TRIGGER frozen_no_delete BEFORE DELETE ON frozen BEGIN SELECT RAISE(ABORT, 'append-only: frozen'); END;
CREATE TRIGGER frozen_no_replace BEFORE INSERT ON frozen WHEN EXISTS (SELECT 1 FROM frozen WHERE name = NEW.name)
BEGIN SELECT RAISE(ABORT, 'append-only: frozen'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'append-only: events'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'append-only: events'); END;
