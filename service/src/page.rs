//! Lists, page by page. A page token names the last item of the page before it, so that a list may change meanwhile.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::error::CallError;

/// Items of a page when the caller does not say.
const DEFAULT_SIZE: usize = 100;

/// Items of a page at most, whatever the caller says.
const LARGEST: usize = 1_000;

/// In which order the items are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Ids grow.
    Rising,
    /// Ids fall.
    Falling,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// 0 leaves it to us.
    pub(crate) size: u32,
    /// Empty for the first page.
    pub(crate) token: &'a str,
}

impl Page<'_> {
    /// The wanted part of `items`, which are sorted by `id`, and the token of the next page; empty after the last one.
    pub(crate) fn cut<T>(
        self,
        items: Vec<T>,
        order: Order,
        id: impl Fn(&T) -> &str,
    ) -> Result<(Vec<T>, String), CallError> {
        let size = match usize::try_from(self.size).unwrap_or(LARGEST) {
            0 => DEFAULT_SIZE,
            size => size.min(LARGEST),
        };
        let after = self.after()?;
        let is_later = |item: &T| match (&after, order) {
            (None, _) => true,
            (Some(last), Order::Rising) => id(item) > last.as_str(),
            (Some(last), Order::Falling) => id(item) < last.as_str(),
        };
        let mut rest = items.into_iter().skip_while(|item| !is_later(item));
        let page: Vec<T> = rest.by_ref().take(size).collect();
        let token = match (page.last(), rest.next()) {
            (Some(last), Some(_)) => BASE64_URL_SAFE_NO_PAD.encode(id(last)),
            _ => String::new(),
        };
        Ok((page, token))
    }

    fn after(self) -> Result<Option<String>, CallError> {
        if self.token.is_empty() {
            return Ok(None);
        }
        let decoded = BASE64_URL_SAFE_NO_PAD.decode(self.token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let unknown =
            || CallError::invalid("page_token", "is none of ours; pass next_page_token as it was, or nothing");
        decoded.map(Some).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: u32, token: &str, order: Order, items: &[&'static str]) -> (Vec<&'static str>, String) {
        Page { size, token }.cut(items.to_vec(), order, |item| item).expect("a good token")
    }

    #[test]
    fn pages_follow_each_other_to_the_end_though_items_come_and_go() {
        let (first, token) = page(2, "", Order::Rising, &["a", "c", "e", "g"]);
        assert_eq!(first, ["a", "c"]);
        let (second, token) = page(2, &token, Order::Rising, &["a", "b", "d", "e", "g"]);
        assert_eq!(second, ["d", "e"], "c is gone, b stands before it");
        let (third, token) = page(2, &token, Order::Rising, &["a", "g"]);
        assert_eq!((third, token), (vec!["g"], String::new()));
    }

    #[test]
    fn falling_lists_have_pages_too() {
        let (first, token) = page(1, "", Order::Falling, &["c", "b", "a"]);
        assert_eq!(first, ["c"]);
        assert_eq!(page(5, &token, Order::Falling, &["d", "c", "b", "a"]).0, ["b", "a"]);
    }

    #[test]
    fn a_token_of_somebody_else_is_refused_by_name() {
        let cut = Page { size: 0, token: "%%%" }.cut(vec!["a"], Order::Rising, |item| item);
        assert!(cut.expect_err("no token of ours").to_string().starts_with("page_token: "));
    }
}
