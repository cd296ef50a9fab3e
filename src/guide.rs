//! The guides that `sealift help TOPIC` prints. They are part of the program, because the isolated network has no
//! internet. It must not know commands or the terminal.
//!
//! Each page is a Markdown file in `src/guide`; its first line is a heading, which is its title. README links to each
//! page, and the modules below show them in the documentation of the crate.

/// One page.
#[derive(Debug)]
pub struct Guide {
    /// The word by which `sealift help` finds it.
    pub topic: &'static str,
    /// The page as Markdown.
    pub text: &'static str,
}

impl Guide {
    /// Returns the heading of the page.
    pub fn title(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

/// Returns the guide for `topic`.
pub fn find(topic: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.topic == topic)
}

macro_rules! guides {
    ($($topic:ident),* $(,)?) => {
        /// Every guide, in the order in which a new user needs them.
        pub const GUIDES: &[Guide] = &[$(Guide {
            topic: stringify!($topic),
            text: include_str!(concat!("guide/", stringify!($topic), ".md")),
        }),*];

        $(
            #[doc = include_str!(concat!("guide/", stringify!($topic), ".md"))]
            pub mod $topic {}
        )*
    };
}

guides!(images, media, trust, registries, skopeo, programs, speed);
