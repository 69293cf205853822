//! Proves a database file without changing it: opens it, recovery and all, over a layer that keeps every write in
//! memory, and verifies all its checksums. Only then may the real file be opened.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::{Builder, StorageBackend};

use super::{directory::failed, tables};
use crate::StoreError;

/// Says why the file cannot be used, if so.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let unusable = |reason: String| StoreError::Unusable { path: path.to_owned(), reason };
    let layer = Layer::over(File::open(path).map_err(failed("open", path))?).map_err(failed("read", path))?;
    if layer.state().length == 0 {
        return Err(unusable("it is empty".to_owned()));
    }
    // The database trusts what it reads more than we do: its panic over a damaged page is an answer, too.
    match catch_unwind(AssertUnwindSafe(|| verify(layer))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(unusable(reason)),
        Err(_) => Err(unusable("it is damaged".to_owned())),
    }
}

fn verify(layer: Layer) -> Result<(), String> {
    let mut database = Builder::new().create_with_backend(layer).map_err(|error| error.to_string())?;
    match database.check_integrity() {
        Ok(true) => tables::check(&database),
        Ok(false) => Err("its checksums do not fit".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// A file below, and in memory whatever was written on top of it.
#[derive(Debug)]
struct Layer {
    file: File,
    state: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// How much of the file still shows through; less than its length once it was cut.
    visible: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

const PAGE: u64 = 4096;

impl Layer {
    fn over(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(Written { length, visible: length, pages: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, Written> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, visible: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = usize::try_from(visible.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (shown, hidden) = out.split_at_mut(shown);
        hidden.fill(0);
        self.file.read_exact_at(shown, offset)
    }
}

/// The parts of `offset..offset + length` that lie in one page each: page, offset in it, offset in the whole, length.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let end = offset + length as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let (from, to) = (offset.max(page * PAGE), end.min((page + 1) * PAGE));
        ((page), (from - page * PAGE) as usize, (from - offset) as usize, (to - from) as usize)
    })
}

impl StorageBackend for Layer {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if offset + out.len() as u64 > state.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.below(state.visible, offset, out)?;
        for (page, within, at, length) in parts(offset, out.len()) {
            if let Some(written) = state.pages.get(&page) {
                out[at..at + length].copy_from_slice(&written[within..within + length]);
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.length = length;
        state.visible = state.visible.min(length);
        state.pages.split_off(&length.div_ceil(PAGE));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (page, within, at, length) in parts(offset, data.len()) {
            if !state.pages.contains_key(&page) {
                let mut fresh = vec![0; PAGE as usize].into_boxed_slice();
                self.below(state.visible, page * PAGE, &mut fresh)?;
                state.pages.insert(page, fresh);
            }
            let written = state.pages.get_mut(&page).expect("the page was just put there");
            written[within..within + length].copy_from_slice(&data[at..at + length]);
        }
        Ok(())
    }
}
