//! An answer with many images, for programs.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Value, json};

use crate::error::Failure;

/// What an answer lists.
pub(crate) trait Entry {
    /// Under which name it lands.
    fn name(&self) -> String;
    fn json(&self) -> Value;
}

/// `{"images": [...], ...}`. Each image becomes JSON when it is written: as values, 10,000 of them take 30 MiB.
pub(crate) struct Answer<E> {
    images: Vec<E>,
    /// An object with `images`, which is null.
    fields: Value,
}

impl<E: Entry> Answer<E> {
    /// `fields` is an object.
    pub(crate) fn new(images: Vec<E>, mut fields: Value) -> Self {
        fields[IMAGES] = Value::Null;
        Answer { images, fields }
    }

    /// The images, to be changed.
    pub(crate) fn images(&mut self) -> &mut [E] {
        &mut self.images
    }

    /// Takes the images that failed out of the list, and names them with their reasons.
    pub(crate) fn keep_landed(&mut self, failures: &[Failure]) {
        let failed: HashSet<&str> = failures.iter().map(|failure| failure.image.as_str()).collect();
        self.images.retain(|image| failed.is_empty() || !failed.contains(image.name().as_str()));
        let one = |failure: &Failure| json!({"image": failure.image, "reason": failure.error.chain(), "hints": failure.error.hints()});
        self.fields["failures"] = failures.iter().map(one).collect();
    }
}

impl<E> Deref for Answer<E> {
    type Target = Value;

    fn deref(&self) -> &Value {
        &self.fields
    }
}

impl<E> DerefMut for Answer<E> {
    fn deref_mut(&mut self) -> &mut Value {
        &mut self.fields
    }
}

impl<E: Entry> Serialize for Answer<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.fields.as_object().into_iter().flatten() {
            match key == IMAGES {
                true => map.serialize_entry(key, &Images(&self.images))?,
                false => map.serialize_entry(key, value)?,
            }
        }
        map.end()
    }
}

struct Images<'a, E>(&'a [E]);

impl<E: Entry> Serialize for Images<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        self.0.iter().try_for_each(|image| list.serialize_element(&image.json()))?;
        list.end()
    }
}

const IMAGES: &str = "images";
