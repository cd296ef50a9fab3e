//! `sealift serve`

use super::transcript;

#[test]
fn errors_say_what_where_and_what_to_do_next() {
    insta::assert_snapshot!(transcript(&[
        "serve sealed",
        "serve nothing",
        "serve --writable sealed",
        "serve --writable layout --listen 192.0.2.1:1",
    ]));
}
