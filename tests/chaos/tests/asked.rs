//! Prompts that can be told apart.

use std::path::Path;

use crate::chaos::asked::*;
use crate::chaos::plan::{Way, Words};

#[test]
fn a_nonce_is_found_again_behind_those_of_earlier_messages() {
    for words in [Words::Talk, Words::Slow, Words::Create, Words::Odd(3)] {
        for chat in [0, 2] {
            let asked = Asked::new(41, chat, Way::Http, words, Path::new("/w"), Path::new("/t"));
            assert_eq!(nonce_in(&asked.prompt), Some("n000041n"), "{words:?}");
            let told = format!("> n000007n was done\n{}", asked.prompt);
            assert_eq!(nonce_in(&told), Some("n000041n"), "{words:?}");
        }
    }
    assert_eq!(nonce_in("no number"), None);
}

#[test]
fn a_file_s_name_says_what_it_holds() {
    let small = content_of(&file_of("n000001n", false));
    let big = content_of(&file_of("n000001n", true));
    assert!(small.is_some_and(|text| text.ends_with(b"n000001n made.\n")));
    assert!(big.is_some_and(|text| text.len() > 8000));
    assert_eq!(content_of("readme.md"), None);
}
