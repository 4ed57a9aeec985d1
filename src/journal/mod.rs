//! The append-only, checksummed, synced log.
