//! Keeps what nodes send: the engine tells it to the log.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, Once, OnceLock};

use log::{LevelFilter, Log, Metadata, Record};
use relay_broker::engine::faults::NODE_FRAMES;

struct Keeper(Mutex<File>);

impl Log for Keeper {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.target() == NODE_FRAMES
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            let mut file = self.0.lock().expect("nobody panics while writing");
            writeln!(file, "{}", record.args()).expect("room for frames");
        }
    }

    fn flush(&self) {}
}

/// From now on, if `MATRIX_FRAMES` names a file.
pub fn keep() {
    static ONCE: Once = Once::new();
    static KEEPER: OnceLock<Keeper> = OnceLock::new();
    ONCE.call_once(|| {
        let Some(path) = std::env::var_os("MATRIX_FRAMES") else {
            return;
        };
        let file = File::options().create(true).append(true).open(&path);
        let file = file.expect("a place for frames");
        log::set_logger(KEEPER.get_or_init(|| Keeper(Mutex::new(file)))).expect("the only log");
        log::set_max_level(LevelFilter::Trace);
    });
}
