//! The prices that the service last said, so that a restart without it goes on with them.

use cladnet_model::tariff::{Book, Document as TariffDocument, Layer, Origin};
use serde::{Deserialize, Serialize};

use super::file::Document;

/// The documents of a book, the least binding first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SavedBook {
    documents: Vec<(Origin, TariffDocument)>,
}

impl From<&Book> for SavedBook {
    fn from(book: &Book) -> Self {
        let document = |layer: &Layer| (layer.origin, layer.document.clone());
        Self { documents: book.layers().iter().map(document).collect() }
    }
}

impl From<SavedBook> for Book {
    fn from(saved: SavedBook) -> Self {
        let layer = |(origin, document)| Layer { origin, document };
        Self::new(saved.documents.into_iter().map(layer).collect())
    }
}

impl Document for SavedBook {
    const FORMAT: &'static str = "cladnet-agent tariff book";
    const VERSION: u32 = 1;
}
