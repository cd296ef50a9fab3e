//! A registry with an image that is asked for and one that is not, and directories in which an export finds something.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Desk, FaultProxy, RealRegistry, Rule, Run, noise, push_image};

/// What is made of the image that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    Directory,
    Tar,
    Zst,
    /// A tar by `sync --dest bundle`.
    Sync,
}

impl Form {
    pub(crate) const ALL: [Form; 4] = [Form::Directory, Form::Tar, Form::Zst, Form::Sync];

    pub(crate) fn output(self) -> &'static str {
        match self {
            Form::Directory => "b",
            Form::Tar | Form::Sync => "b.tar",
            Form::Zst => "b.tar.zst",
        }
    }
}

/// How an export ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// Exactly what was asked for is sealed.
    Sealed,
    /// The same, and this is said.
    SealedSaying(&'static str),
    /// Nothing is sealed, and this is said.
    Refused(&'static str),
}

/// Puts something where an export writes.
pub(crate) type Plant = fn(&Place<'_>);

/// A line of a table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) plant: Plant,
    pub(crate) end: End,
}

pub(crate) struct Scene {
    pub(crate) desk: Desk,
    pub(crate) registry: RealRegistry,
    pub(crate) proxy: FaultProxy,
    /// The digests (hex) of the config and the layers of the image that is asked for.
    pub(crate) blobs: Vec<String>,
    places: AtomicUsize,
}

/// Where one case takes place: `usb` is the medium, `elsewhere` holds other files on the same file system.
pub(crate) struct Place<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) form: Form,
    /// Below the desk.
    name: String,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let proxy = FaultProxy::start(registry.host());
        let layers = [noise(1, 300_000), noise(2, 5 << 20)];
        let digests = push_image(registry.host(), "team/app", "1", &[&layers[0], &layers[1]]);
        push_image(registry.host(), "team/evil", "1", &[&layers[0], &noise(3, 200_000)]);
        let blobs = digests.iter().map(|digest| digest["sha256:".len()..].to_owned()).collect();
        let scene = Scene { desk, registry, proxy, blobs, places: AtomicUsize::new(0) };
        for form in Form::ALL {
            let reference = scene.place(form);
            reference.export().success();
            let target = scene.path(&format!("reference-{form:?}"));
            fs::rename(reference.usb(form.output()), target).unwrap();
        }
        scene
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.desk.path().join(name)
    }

    /// `127.0.0.1:PORT/team/NAME:1`
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/team/{name}:1", self.proxy.host())
    }

    /// A new place.
    pub(crate) fn place(&self, form: Form) -> Place<'_> {
        let name = format!("place-{}", self.places.fetch_add(1, Ordering::Relaxed));
        for directory in ["usb", "elsewhere", "state"] {
            fs::create_dir_all(self.path(&name).join(directory)).unwrap();
        }
        fs::write(self.path(&name).join("elsewhere/precious"), b"do not touch").unwrap();
        Place { scene: self, form, name }
    }

    /// Runs every case of a table, and fails with all that do not hold.
    pub(crate) fn check(&self, cases: &[Case]) {
        let mut wrong = Vec::new();
        for case in cases {
            let place = self.place(case.form);
            (case.plant)(&place);
            let name = format!("{} ({:?})", case.name, case.form);
            if let Err(why) = place.check(case.end) {
                wrong.push(format!("{name}: {why}"));
            }
            println!("{name}");
        }
        assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    }
}

impl Place<'_> {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scene.path(&self.name).join(name)
    }

    /// A path on the medium.
    pub(crate) fn usb(&self, name: &str) -> PathBuf {
        self.path("usb").join(name)
    }

    pub(crate) fn partial(&self) -> PathBuf {
        self.usb(&format!(".{}.partial", self.form.output()))
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.usb(&format!(".{}.journal", self.form.output()))
    }

    /// A blob's file in an unfinished directory.
    pub(crate) fn blob(&self, hex: &str) -> PathBuf {
        self.partial().join("blobs/sha256").join(hex)
    }

    pub(crate) fn elsewhere(&self) -> PathBuf {
        self.path("elsewhere/precious")
    }

    pub(crate) fn line(&self) -> Vec<String> {
        let output = format!("{}/usb/{}", self.name, self.form.output());
        let image = self.scene.image("app");
        let line: &[&str] = match self.form {
            Form::Sync => &["sync", "-s", "docker", "-d", "bundle", "--names", "path", &image, &output],
            _ => &["export", &image, "--output", &output],
        };
        line.iter()
            .chain(&["--key", "key", "--retry-delay", "0.02", "--jobs", "1"])
            .map(|&word| word.to_owned())
            .collect()
    }

    /// `XDG_STATE_HOME`, so that a program that knows of no state can be run, too.
    fn variables(&self) -> (String, String) {
        ("XDG_STATE_HOME".into(), self.path("state").display().to_string())
    }

    pub(crate) fn export(&self) -> Run {
        self.export_with(&[])
    }

    /// The same with more options.
    pub(crate) fn export_with(&self, options: &[&str]) -> Run {
        let (name, value) = self.variables();
        let line: Vec<String> = self.line().into_iter().chain(options.iter().map(|&word| word.to_owned())).collect();
        self.scene.desk.sealift_in(&[(&name, &value)], &line)
    }

    /// The same wrapped into another program.
    pub(crate) fn export_wrapped(&self, wrapper: &[&str]) -> Run {
        let (name, value) = self.variables();
        let variable = format!("{name}={value}");
        let wrapper = [&["env", variable.as_str()], wrapper].concat();
        let line = self.line();
        self.scene.desk.wrapped(&wrapper, &line.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// An export that fails at the last layer: the others stay where it wrote.
    pub(crate) fn interrupt(&self) {
        let last = self.scene.blobs.last().unwrap();
        self.scene.proxy.inject(Rule::on("GET", last).status(404).times(1));
        assert_ne!(self.export().exit_code(), 0);
        self.scene.proxy.heal();
    }

    /// The plan of an interrupted run.
    pub(crate) fn plan(&self) -> PathBuf {
        let plans = fs::read_dir(self.path("state/sealift/plans")).unwrap();
        let plans: Vec<PathBuf> = plans.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(plans.len(), 1, "{plans:?}");
        plans[0].clone()
    }

    /// Runs the export, and looks at what came of it.
    pub(crate) fn check(&self, end: End) -> Result<(), String> {
        self.check_run(end, Place::export)
    }

    pub(crate) fn check_run(&self, end: End, run: impl FnOnce(&Self) -> Run) -> Result<(), String> {
        let before = self.others();
        let run = run(self);
        let said = run.stderr();
        let after = self.others();
        if before != after {
            return Err(format!("another file changed: {before:?}, then {after:?}"));
        }
        let output = self.usb(self.form.output());
        let (sealed, words) = match end {
            End::Sealed => (true, ""),
            End::SealedSaying(words) => (true, words),
            End::Refused(words) => (false, words),
        };
        if run.was_killed() || (run.exit_code() == 0) != sealed {
            return Err(format!("it ended in another way: {said}"));
        }
        if !said.contains(words) {
            return Err(format!("{words:?} is not in what was said: {said}"));
        }
        match sealed {
            false if output.symlink_metadata().is_ok() => Err("there is a bundle".into()),
            false if !said.starts_with("error: ") && !said.contains("\nerror: ") => Err(format!("no error: {said}")),
            false => Ok(()),
            true => self.is_reference(&output),
        }
    }

    fn is_reference(&self, output: &Path) -> Result<(), String> {
        let reference = self.scene.path(&format!("reference-{:?}", self.form));
        let same =
            Command::new("diff").args(["-rq".as_ref(), reference.as_os_str(), output.as_os_str()]).output().unwrap();
        match same.status.success() {
            true => Ok(()),
            false => Err(format!("something else is sealed: {}", String::from_utf8_lossy(&same.stdout))),
        }
    }

    /// What every file here is that an export has no business with.
    fn others(&self) -> BTreeMap<PathBuf, String> {
        let (mut others, mut folders) = (BTreeMap::new(), vec![self.path("usb"), self.path("elsewhere")]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let entry = entry.unwrap();
                let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
                let own = [".partial", ".journal", ".journal.new", ".try", ".lock", ".lock.new", ""];
                let name = entry.file_name().into_string().unwrap();
                let own = own.iter().any(|end| {
                    name == self.form.output() || !end.is_empty() && name == format!(".{}{end}", self.form.output())
                });
                if own && folder.ends_with("usb") {
                    continue;
                }
                if metadata.is_dir() {
                    folders.push(path.clone());
                }
                let content =
                    if metadata.is_file() { support::sha256(&fs::read(&path).unwrap()) } else { String::new() };
                let kind = metadata.file_type();
                let device = kind.is_block_device() || kind.is_char_device();
                let state = (metadata.mode(), metadata.uid(), metadata.rdev() * u64::from(device), content);
                others.insert(path, format!("{state:?}"));
            }
        }
        others
    }
}

/// Whether this test may make devices and files of other users; else it says that it does not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: only root can make devices and files of other users");
    }
    root
}
