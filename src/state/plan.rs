//! The plan of one unfinished bundle.
//!
//! ```text
//! sealift plan 1
//! {"binding":...}     one line of JSON: what the plan is for, and when it was made ([`Header`])
//! ...                 what its writer put there: not looked at here
//! ```
//!
//! It is for one output (directory and file name), one selection and one set of keys; for any other there is no plan.
//! A file is written under another name and renamed when it is durable, so it is there whole or not at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{State, check_own};
use crate::error::{Error, Failure, Kind, Result};
use crate::files::{create_anew, remove, show};
use crate::oci::Digest;

/// What a plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    output: PathBuf,
    selection: Digest,
    keys: Vec<String>,
}

/// What is known of a plan beside its content.
#[derive(Debug)]
pub struct Header {
    /// When the tags were resolved.
    pub planned: Timestamp,
    /// The time that the bundle will bear.
    pub created: Timestamp,
    /// Images that were asked for and are not in the plan, and why.
    pub left_out: Vec<Failure>,
}

/// The file of a plan, which may not be there.
#[derive(Debug)]
pub struct PlanFile {
    state: Arc<State>,
    name: String,
    binding: Binding,
}

impl Binding {
    /// The bundle at `output`, whose directory must be there; `selection` is the digest of what decides what is carried;
    /// `keys` are the fingerprints of the keys that sign.
    ///
    /// # Errors
    /// `Io` if the directory cannot be found.
    pub fn new(output: &Path, selection: Digest, mut keys: Vec<String>) -> Result<Binding> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = std::fs::canonicalize(parent)
            .map_err(|e| Error::io(format!("cannot find the directory {}", show(parent.as_os_str())), e))?;
        keys.sort();
        Ok(Binding { output: parent.join(output.file_name().unwrap_or_default()), selection, keys })
    }
}

impl PlanFile {
    /// The one for `binding`.
    pub fn new(state: Arc<State>, binding: Binding) -> PlanFile {
        let name = format!("{}.plan", Digest::of(binding.output.as_os_str().as_bytes()).hex());
        PlanFile { state, name, binding }
    }

    /// Its path, for messages.
    pub fn shown(&self) -> String {
        self.state.plans.shown(&self.name)
    }

    /// Whether a plan can be written.
    ///
    /// # Errors
    /// `Io` if not.
    pub fn check_writable(&self) -> Result<()> {
        self.state.locked(|| {
            let mut file = create_anew(&self.state.plans, &self.new_name())?;
            let written = file.write_all(TITLE.as_bytes()).and_then(|()| file.sync_all());
            remove(&self.state.plans, self.new_name())?;
            written.map_err(|e| self.cannot_write(e))
        })
    }

    /// The plan that is there for the same output, selection and keys, with its content to be read.
    ///
    /// # Errors
    /// `Usage` if others can change the file, `Damaged` if it is not a plan, `Io` if it cannot be read.
    pub fn load(&self) -> Result<Option<(Header, BufReader<File>)>> {
        self.state.locked(|| {
            let plans = &self.state.plans;
            let Some(stat) = plans.look(OsStr::new(&self.name))? else { return Ok(None) };
            check_own(&stat, &self.shown())?;
            let (file, _) = plans.file(&self.name)?;
            check_own(&rustix::fs::fstat(&file).map_err(|e| plans.failed("look at", &self.name, e))?, &self.shown())?;
            let mut input = BufReader::new(file);
            let mut text = Vec::new();
            let failed = |e| Error::io(format!("cannot read {}", self.shown()), e);
            input.by_ref().take(TITLE.len() as u64).read_to_end(&mut text).map_err(failed)?;
            if text != TITLE.as_bytes() {
                return Err(self.damaged("it is not a plan, or of another version"));
            }
            text.clear();
            input.by_ref().take(MAX_HEADER).read_until(b'\n', &mut text).map_err(failed)?;
            let raw: Raw = serde_json::from_slice(&text).map_err(|e| self.damaged(&e.to_string()))?;
            if raw.binding != self.raw_binding() {
                return Ok(None);
            }
            let header = raw.header().ok_or_else(|| self.damaged("its times are none"))?;
            Ok(Some((header, input)))
        })
    }

    /// Writes the plan, in place of any other for this output. `content` writes what [`PlanFile::load`] returns.
    ///
    /// # Errors
    /// `Io` if it cannot be written.
    pub fn save(&self, header: &Header, content: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        self.state.locked(|| {
            let (plans, new) = (&self.state.plans, self.new_name());
            let file = create_anew(plans, &new)?;
            let mut writer = BufWriter::new(&file);
            let header = serde_json::to_string(&self.raw(header)).expect("texts and lists are always JSON");
            writeln!(writer, "{}{header}", TITLE).map_err(|e| self.cannot_write(e))?;
            content(&mut writer)?;
            writer.flush().and_then(|()| file.sync_data()).map_err(|e| self.cannot_write(e))?;
            rustix::fs::renameat(plans.fd(), &new, plans.fd(), &self.name)
                .map_err(|e| plans.failed("rename", &new, e))?;
            rustix::fs::fsync(plans.fd()).map_err(|e| plans.failed("write", &self.name, e))
        })
    }

    /// Removes the plan, if there is one.
    ///
    /// # Errors
    /// `Io` if it cannot be removed.
    pub fn remove(&self) -> Result<()> {
        self.state.locked(|| remove(&self.state.plans, &self.name))
    }

    /// The error for a file that is not as it was written.
    pub fn damaged(&self, what: &str) -> Error {
        Error::damaged(format!("cannot use the plan {}", self.shown())).caused_by(Error::damaged(what))
    }

    fn new_name(&self) -> String {
        format!("{}.new", self.name)
    }

    fn cannot_write(&self, error: std::io::Error) -> Error {
        Error::io(format!("cannot write {}", self.shown()), error)
    }

    fn raw_binding(&self) -> RawBinding {
        let Binding { output, selection, keys } = &self.binding;
        // The name of the file tells outputs apart whose paths are no text.
        RawBinding { output: show(output.as_os_str()), selection: *selection, keys: keys.clone() }
    }

    fn raw(&self, header: &Header) -> Raw {
        let left_out = header.left_out.iter().map(|Failure { image, error }| LeftOut {
            image: image.clone(),
            kind: error.kind(),
            message: error.chain(),
            hints: error.hints().to_vec(),
        });
        Raw {
            binding: self.raw_binding(),
            planned: header.planned.to_string(),
            created: header.created.to_string(),
            left_out: left_out.collect(),
        }
    }
}

/// [`Header`] and [`Binding`] as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    binding: RawBinding,
    /// Times as RFC 3339.
    planned: String,
    created: String,
    left_out: Vec<LeftOut>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBinding {
    output: String,
    selection: Digest,
    keys: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LeftOut {
    image: String,
    kind: Kind,
    message: String,
    hints: Vec<String>,
}

impl Raw {
    /// Nothing if a time is none.
    fn header(self) -> Option<Header> {
        let failure = |LeftOut { image, kind, message, hints }: LeftOut| {
            let error = hints.into_iter().fold(Error::new(kind, message), Error::hint);
            Failure { image, error }
        };
        Some(Header {
            planned: self.planned.parse().ok()?,
            created: self.created.parse().ok()?,
            left_out: self.left_out.into_iter().map(failure).collect(),
        })
    }
}

const TITLE: &str = "sealift plan 1\n";
/// Of the line of JSON, in bytes: 64 MiB, more than the failures of 50,000 images take.
const MAX_HEADER: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    struct Scene {
        dir: tempfile::TempDir,
        state: Arc<State>,
    }

    impl Scene {
        fn new() -> Scene {
            let dir = tempfile::tempdir().unwrap();
            let state = Arc::new(State::open(&dir.path().join("state")).unwrap());
            Scene { dir, state }
        }

        fn plan(&self, output: &str, selection: &str, key: &str) -> PlanFile {
            let output = self.dir.path().join(output);
            let binding = Binding::new(&output, Digest::of(selection.as_bytes()), vec![key.into()]).unwrap();
            PlanFile::new(self.state.clone(), binding)
        }
    }

    fn header() -> Header {
        let error = Error::new(Kind::NotFound, "gone").hint("look again");
        Header {
            planned: "2026-11-27T10:00:00Z".parse().unwrap(),
            created: "2026-11-23T12:00:00Z".parse().unwrap(),
            left_out: vec![Failure { image: "a/b:1".into(), error }],
        }
    }

    fn save(plan: &PlanFile) {
        plan.save(&header(), |writer| writer.write_all(b"content\n").map_err(|e| Error::io("", e))).unwrap();
    }

    #[test]
    fn a_plan_is_read_back_as_it_was_written_and_removed() {
        let scene = Scene::new();
        let plan = scene.plan("b.tar", "s", "k");
        assert!(plan.load().unwrap().is_none());
        plan.check_writable().unwrap();
        save(&plan);
        let (found, mut rest) = plan.load().unwrap().unwrap();
        let mut content = String::new();
        rest.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content\n");
        assert_eq!((found.planned, found.created), (header().planned, header().created));
        let error = &found.left_out[0].error;
        assert_eq!(
            (error.kind(), error.chain(), error.hints()),
            (Kind::NotFound, "gone".into(), &["look again".into()][..])
        );
        plan.remove().unwrap();
        plan.remove().unwrap();
        assert!(plan.load().unwrap().is_none());
    }

    #[test]
    fn a_plan_is_for_one_output_one_selection_and_one_key() {
        let scene = Scene::new();
        save(&scene.plan("b.tar", "s", "k"));
        for (output, selection, key) in [("c.tar", "s", "k"), ("b.tar", "t", "k"), ("b.tar", "s", "l")] {
            assert!(scene.plan(output, selection, key).load().unwrap().is_none(), "{output} {selection} {key}");
        }
        // The same directory by another way is the same output.
        std::os::unix::fs::symlink(".", scene.dir.path().join("link")).unwrap();
        assert!(scene.plan("link/b.tar", "s", "k").load().unwrap().is_some());
    }

    #[test]
    fn a_file_that_others_can_change_is_refused_and_a_torn_one_is_no_plan() {
        let scene = Scene::new();
        let plan = scene.plan("b.tar", "s", "k");
        save(&plan);
        let path = scene.dir.path().join("state/plans").join(&plan.name);
        let whole = std::fs::read(&path).unwrap();
        for torn in [&whole[..0], &whole[..5], &whole[..40], b"sealift plan 2\n{}\n"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(plan.load().unwrap_err().kind(), Kind::Damaged);
        }
        std::fs::write(&path, &whole).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(plan.load().unwrap_err().kind(), Kind::Usage);
        std::fs::rename(&path, scene.dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(scene.dir.path().join("elsewhere"), &path).unwrap();
        assert!(plan.load().is_err());
    }
}
