//! `sealift keygen`

use crate::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&["keygen", "keygen key", "keygen nowhere/key"]));
}
