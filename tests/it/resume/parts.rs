//! A large layer that broke off is gone on with where it broke off.

use std::fs;
use std::time::{Duration, Instant};

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, noise, push_image};

use super::{Form, export, export_line, left, same, verify};

const SIZE: usize = 40 << 20;

struct Scene {
    desk: Desk,
    _registry: RealRegistry,
    proxy: FaultProxy,
    image: String,
    layer: String,
}

impl Scene {
    fn new() -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let proxy = FaultProxy::start(registry.host());
        let layer = push_image(registry.host(), "team/big", "1", &[&noise(1, SIZE), b"small"]).remove(1);
        let image = format!("{}/team/big:1", proxy.host());
        Scene { desk, _registry: registry, proxy, image, layer }
    }

    /// Bytes of the layer that the proxy handed out.
    fn handed_out(&self) -> u64 {
        self.proxy.requests().iter().filter(|r| r.path.contains(&self.layer)).map(|r| r.sent).sum()
    }

    fn break_off(&self, form: Form) {
        self.proxy.inject(Rule::on("GET", &self.layer).throttle(40 << 20));
        let running = self.desk.start(&export_line(&[&self.image], form.output(), &[]));
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.handed_out() < 28 << 20 {
            assert!(Instant::now() < deadline, "the layer does not come");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(running.kill().was_killed());
        assert_ne!(verify(&self.desk, &form.partial()), 0);
        self.proxy.heal();
        self.proxy.wait_until_quiet();
        self.proxy.reset_count();
    }
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn after_a_kill_only_the_rest_is_fetched(#[case] form: Form) {
    let scene = Scene::new();
    scene.break_off(form);
    let again = export(&scene.desk, &[&scene.image], form.output(), &[]);
    again.success();
    let most = (SIZE - (16 << 20)) as u64;
    assert!(scene.handed_out() <= most, "{} bytes were handed out again", scene.handed_out());
    export(&scene.desk, &[&scene.image], "reference", &[]).success();
    assert_eq!(verify(&scene.desk, form.output()), 0);
    if form == Form::Directory {
        assert!(same(&scene.desk, "b", "reference"));
    }
    assert_eq!(left(&scene.desk), [form.output(), "reference"]);
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn what_was_left_is_not_believed(#[case] form: Form) {
    let scene = Scene::new();
    scene.break_off(form);
    let partial = scene.desk.path().join(form.partial());
    let file = match form {
        Form::Tar => partial,
        Form::Directory => partial.join(format!("blobs/sha256/.{}.part", &scene.layer["sha256:".len()..])),
    };
    let mut bytes = fs::read(&file).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&file, bytes).unwrap();
    export(&scene.desk, &[&scene.image], form.output(), &[]).success();
    assert!(scene.handed_out() >= SIZE as u64);
    assert_eq!(verify(&scene.desk, form.output()), 0);
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn a_registry_that_gives_up_in_the_middle_costs_the_rest_only(#[case] form: Form) {
    let scene = Scene::new();
    scene.proxy.inject(Rule::on("GET", &scene.layer).cut_response(30 << 20).times(1));
    scene.proxy.inject(Rule::on("GET", &scene.layer).after(1).status(500));
    let failed = export(&scene.desk, &[&scene.image], form.output(), &["--retry-times", "1"]);
    failed.code(1).stderr_contains("run the same command again");
    scene.proxy.heal();
    scene.proxy.reset_count();
    export(&scene.desk, &[&scene.image], form.output(), &[]).success();
    assert!(scene.handed_out() <= 11 << 20, "{} bytes were handed out again", scene.handed_out());
    assert_eq!(verify(&scene.desk, form.output()), 0);
}
