//! The prices in force: what is shipped, under what is kept in the store.

use std::{collections::BTreeMap, sync::Arc};

use cladnet_model::tariff::{Book, Document, Origin};
use cladnet_proto::{cladnet::v1::TariffBook, convert};

/// The book, as agents are told of it: made once, when it changes.
#[derive(Debug)]
pub(crate) struct Tariffs {
    documents: BTreeMap<Origin, Document>,
    book: Arc<Book>,
    wire: Arc<TariffBook>,
}

impl Default for Tariffs {
    fn default() -> Self {
        let book = Book::shipped();
        Self { documents: BTreeMap::new(), wire: Arc::new(convert::tariff_book(&book)), book }
    }
}

impl Tariffs {
    pub(crate) fn book(&self) -> &Arc<Book> {
        &self.book
    }

    pub(crate) fn wire(&self) -> &Arc<TariffBook> {
        &self.wire
    }

    pub(super) fn has(&self, origin: Origin) -> bool {
        self.documents.contains_key(&origin)
    }

    pub(super) fn put(&mut self, origin: Origin, document: Document) {
        self.documents.insert(origin, document);
        self.lay();
    }

    pub(super) fn delete(&mut self, origin: Origin) {
        self.documents.remove(&origin);
        self.lay();
    }

    fn lay(&mut self) {
        let document = |origin| self.documents.get(&origin);
        let book = Book::effective(document(Origin::Imported), document(Origin::Operator));
        self.wire = Arc::new(convert::tariff_book(&book));
        self.book = Arc::new(book);
    }
}
