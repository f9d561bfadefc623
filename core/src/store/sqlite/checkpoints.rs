//! What bridges keep between their lives.

use super::StoreError;
use super::tx::Tx;
use crate::store::{CheckpointWrite, Written};
use rusqlite::{Connection, OptionalExtension, params};

/// Carries out [`crate::store::Write::PutCheckpoint`].
pub(super) fn put(tx: &Tx<'_>, write: CheckpointWrite) -> Result<Written, StoreError> {
    let CheckpointWrite { bridge, hash, sealed, most } = write;
    let Some((name, value)) = sealed else {
        tx.sql("DELETE FROM checkpoints WHERE bridge = ? AND hash = ?")?.execute(params![bridge, hash])?;
        return Ok(Written::Done);
    };
    let there = tx.sql("SELECT 1 FROM checkpoints WHERE bridge = ? AND hash = ?")?.exists(params![bridge, hash])?;
    if there {
        let mut update = tx.sql("UPDATE checkpoints SET value = ? WHERE bridge = ? AND hash = ?")?;
        update.execute(params![value, bridge, hash])?;
        return Ok(Written::Done);
    }
    let mut count = tx.sql("SELECT count(*) FROM checkpoints WHERE bridge = ?")?;
    if count.query_row([&bridge], |row| row.get::<_, u32>(0))? >= most {
        return Err(StoreError::Limit("the bridge keeps as many things as it may"));
    }
    tx.sql("INSERT INTO checkpoints VALUES (?, ?, ?, ?)")?.execute(params![bridge, hash, name, value])?;
    Ok(Written::Done)
}

pub(super) fn one(connection: &Connection, bridge: &str, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT value FROM checkpoints WHERE bridge = ? AND hash = ?")?;
    Ok(select.query_row(params![bridge, hash], |row| row.get(0)).optional()?)
}

pub(super) fn names(connection: &Connection, bridge: &str) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut select = connection.prepare_cached("SELECT name FROM checkpoints WHERE bridge = ?")?;
    Ok(select.query_map([bridge], |row| row.get(0))?.collect::<Result<_, _>>()?)
}
