//! Metadata as a tree of text files, which is how AWS, OpenStack and Alibaba show it: a leaf is its value, a directory is
//! the list of what is in it, one name per line, those of directories ending in `/`.

use std::collections::{BTreeMap, BTreeSet};

use super::Answer;

#[derive(Default)]
pub(super) struct Tree(BTreeMap<String, String>);

impl Tree {
    /// Sets a leaf; one without a value does not exist.
    pub(super) fn set(&mut self, path: &str, value: impl Into<Option<String>>) {
        if let Some(value) = value.into().filter(|value| !value.is_empty()) {
            self.0.insert(path.to_owned(), value);
        }
    }

    /// What is at a path below the root of the tree.
    pub(super) fn answer(&self, path: &str) -> Answer {
        let path = path.trim_matches('/');
        if let Some(value) = self.0.get(path) {
            return Answer::text(value);
        }
        let inside = |leaf: &str| match path {
            "" => Some(leaf.to_owned()),
            _ => leaf.strip_prefix(path)?.strip_prefix('/').map(str::to_owned),
        };
        let names: BTreeSet<String> = self
            .0
            .keys()
            .filter_map(|leaf| inside(leaf))
            .map(|leaf| leaf.split_once('/').map_or(leaf.clone(), |(directory, _)| format!("{directory}/")))
            .collect();
        match names.is_empty() {
            true => Answer::not_found(),
            false => Answer::text(names.into_iter().collect::<Vec<_>>().join("\n")),
        }
    }
}

/// One item per line.
pub(super) fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join("\n")
}
