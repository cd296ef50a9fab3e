//! Progress on a real terminal, 80 columns wide: tmux shows what a person would see.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::{Desk, FaultProxy, RealRegistry, Rule, push_blob, put_manifest, sha256};

/// Large enough for a line of its own.
const LARGE: usize = 33 << 20;

#[test]
fn bars_are_redrawn_in_place_and_leave_nothing_behind() {
    let (source, desk) = (registry(), support::desk!());
    let proxy = FaultProxy::start(source.host());
    proxy.inject(Rule::on("GET", "/blobs/").throttle(20 << 20));
    proxy.inject(Rule::on("GET", &sha256(&vec![7; LARGE])).status(503).times(1));
    let line = format!("export {}/team/large:1 --output bundle --key key --retry-delay 0.1", proxy.host());
    let screen = Screen::run(&desk, &line);
    let frames = screen.frames();

    let moving: Vec<&Vec<String>> =
        frames.iter().filter(|frame| frame.iter().any(|line| line.contains("left"))).collect();
    assert!(moving.len() >= 3, "{frames:#?}");
    let mut before = 0;
    for frame in &moving {
        let bars: Vec<&String> = frame.iter().filter(|line| line.contains(" % ")).collect();
        assert!(bars.len() <= 2, "one for the run and one for the large blob: {frame:#?}");
        assert!(bars[0].ends_with("/2 blobs") && bars[0].contains("/s "), "{frame:#?}");
        assert!(bars[1..].iter().all(|line| line.contains(" of  33.0 MiB  ")), "{frame:#?}");
        let position = |line: &&String| frame.iter().position(|other| other == *line).unwrap();
        assert!(bars.iter().map(position).max() == Some(frame.len() - 1), "nothing is below: {frame:#?}");
        let percent: u32 = bars[0].trim().split(' ').next().unwrap().parse().unwrap();
        assert!(percent >= before, "{frame:#?}");
        before = percent;
    }
    let last = frames.last().unwrap();
    assert!(last.iter().any(|line| line.contains("sealed bundle: 1 image")), "{last:#?}");
    assert!(last.iter().any(|line| line.contains("trying again")), "a line above the bars: {last:#?}");
    assert!(!last.iter().any(|line| line.contains(" % ")), "no bar is left: {last:#?}");
    assert_eq!(last.last().unwrap(), "ended 0");

    let drawn = screen.drawn();
    assert!(!drawn.contains("\u{1b}[2J") && !drawn.contains("\u{1b}[H") && !drawn.contains("\u{1b}[J"), "{drawn:?}");
    let erased = drawn.matches("\u{1b}[2K").count() + drawn.matches("\u{1b}[K").count();
    let draws = drawn.matches(" left  ").count();
    assert!(draws > 5 && erased < draws, "lines are written over, not erased: {erased} of {draws}: {drawn:?}");
}

/// A window of its own in a tmux of its own.
struct Screen {
    socket: String,
    raw: std::path::PathBuf,
    begun: Instant,
}

impl Screen {
    fn run(desk: &Desk, line: &str) -> Self {
        let socket = format!("sealift-{}", std::process::id());
        let raw = desk.path().join("raw");
        let program = env!("CARGO_BIN_EXE_sealift");
        // It begins when tmux writes down what is drawn.
        let line = format!(
            "cd {}; while ! [ -e raw ]; do sleep 0.05; done; export HOME=/nonexistent LC_ALL=C.UTF-8; \
             {program} {line}; echo ended $?; sleep 60",
            desk.path().display()
        );
        let screen = Screen { socket, raw, begun: Instant::now() };
        screen.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &line]);
        screen.tmux(&["pipe-pane", "-o", &format!("cat > {}", screen.raw.display())]);
        screen
    }

    /// What is seen, line by line, until the program ended.
    fn frames(&self) -> Vec<Vec<String>> {
        let mut frames: Vec<Vec<String>> = Vec::new();
        loop {
            let text = self.tmux(&["capture-pane", "-p"]);
            let frame: Vec<String> = text.trim_end().lines().map(str::to_owned).collect();
            // A message may be longer than a line.
            let mut bars = frame.iter().filter(|line| line.contains(" % "));
            assert!(bars.all(|line| line.chars().count() < 80), "the last column stays free: {frame:#?}");
            let ended = frame.last().is_some_and(|line| line.starts_with("ended "));
            if frames.last() != Some(&frame) {
                frames.push(frame);
            }
            if ended {
                return frames;
            }
            assert!(self.begun.elapsed() < Duration::from_secs(60), "{frames:#?}");
            sleep(Duration::from_millis(100));
        }
    }

    /// Every byte that was drawn.
    fn drawn(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(Path::new(&self.raw)).unwrap()).into_owned()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").arg("-L").arg(&self.socket).args(arguments).output();
        let output = output.unwrap_or_else(|e| panic!("tmux cannot be run ({e}): apt-get install tmux"));
        assert!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.socket, "kill-server"]).output();
    }
}

/// A registry with one image that has one large layer.
fn registry() -> RealRegistry {
    let registry = RealRegistry::start();
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = push_blob(registry.host(), "team/large", bytes);
        format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len())
    };
    let config = blob("application/vnd.oci.image.config.v1+json", br#"{"architecture":"amd64","os":"linux"}"#);
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &vec![7; LARGE]);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layer}]}}"#);
    put_manifest(registry.host(), "team/large", "1", media_type, manifest.as_bytes());
    registry
}
