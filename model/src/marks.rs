//! Characters that are obeyed instead of shown: they move a cursor, turn the direction of writing, join or hide what stands
//! around them. What others wrote goes to a terminal or a page only with these taken away or spelt out.

/// Whether the character is one of these. The page has the same list (`admin-web/ui/src/text.ts`).
pub fn is_mark(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_turns_hides_or_commands_is_a_mark() {
        for c in "\n\u{1b}\u{9b}\u{61c}\u{200b}\u{200f}\u{202e}\u{2066}\u{2069}\u{feff}\u{e0041}".chars() {
            assert!(is_mark(c), "{c:?}");
        }
    }

    #[test]
    fn letters_and_signs_of_every_script_are_none() {
        assert!(!"vm-1 שרת 한국 <b> 🙂 é …".chars().any(is_mark));
    }
}
