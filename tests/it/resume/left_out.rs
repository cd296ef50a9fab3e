//! `--keep-going`: an image that fails after everything was planned is left out, and the rest is sealed as if it had
//! never been asked for.

use rstest::rstest;
use support::{Desk, FaultProxy, RealRegistry, Rule, noise, push_image};

use super::trace::{strace, words};
use super::{Form, export, export_line, fetched, left, same, verify};

/// Three images, and a proxy that does not hand out one layer of the second. That layer stands before most of the
/// others, and two of them change places when it is gone.
struct Scene {
    desk: Desk,
    _registry: RealRegistry,
    proxy: FaultProxy,
    broken: String,
}

impl Scene {
    fn new() -> Scene {
        let (desk, registry) = (support::desk!(), RealRegistry::start());
        let proxy = FaultProxy::start(registry.host());
        let layer = |seed, size| noise(seed, size);
        let (one, two, three) = (layer(1, 3 << 20), layer(2, (2 << 20) + 17), layer(3, 70_000));
        let gone = layer(4, (1 << 20) + 5);
        let broken = push_image(registry.host(), "team/b", "1", &[&two, &gone, &one]).remove(2);
        push_image(registry.host(), "team/c", "1", &[&one, &three]);
        push_image(registry.host(), "team/d", "1", &[&three, &two, &layer(5, 200_000), b"small"]);
        Scene { desk, _registry: registry, proxy, broken }
    }

    fn images(&self) -> [String; 3] {
        ["b", "c", "d"].map(|name| format!("{}/team/{name}:1", self.proxy.host()))
    }

    /// What the two good ones alone make.
    fn make_reference(&self, output: &str) {
        let [_, c, d] = self.images();
        export(&self.desk, &[&c, &d], output, &[]).success();
        self.proxy.reset_count();
    }

    fn fail(&self, rule: impl Fn(Rule) -> Rule) {
        self.proxy.inject(rule(Rule::on("GET", &self.broken)));
    }
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn an_image_whose_layer_is_gone_is_left_out_and_the_rest_is_sealed(#[case] form: Form) {
    let scene = Scene::new();
    let reference = format!("reference-{}", form.output());
    scene.make_reference(&reference);
    scene.fail(|rule| rule.status(404));
    let images = scene.images();
    let images = images.each_ref().map(String::as_str);
    let done = export(&scene.desk, &images, form.output(), &["--keep-going"]);
    done.code(4).stderr_contains("team/b:1").stderr_contains("a manifest names it");
    assert!(same(&scene.desk, form.output(), &reference));
    assert_eq!(left(&scene.desk), [form.output(), reference.as_str()]);
    assert_eq!(verify(&scene.desk, form.output()), 0);
    let said = scene.desk.sealift(&["inspect", form.output(), "--trust", "allowed_signers", "--json"]).stdout();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(done.stderr().contains(said["identity"].as_str().unwrap()), "another identity was told");
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn a_source_that_lies_costs_its_image_only(#[case] form: Form) {
    let scene = Scene::new();
    let reference = format!("reference-{}", form.output());
    scene.make_reference(&reference);
    scene.fail(|rule| rule.flip_byte(1000));
    let images = scene.images();
    let images = images.each_ref().map(String::as_str);
    export(&scene.desk, &images, form.output(), &["--keep-going"]).code(4).stderr_contains("does not keep its word");
    assert!(same(&scene.desk, form.output(), &reference));
}

#[test]
fn without_keep_going_nothing_is_sealed_and_a_pipe_says_that_it_cannot() {
    let scene = Scene::new();
    scene.fail(|rule| rule.status(404));
    let images = scene.images();
    let images = images.each_ref().map(String::as_str);
    export(&scene.desk, &images, "b.tar", &[]).code(1);
    assert!(!scene.desk.path().join("b.tar").exists());
    let piped = export(&scene.desk, &images, "-", &["--keep-going"]);
    piped.code(1).stderr_contains("or export into a directory or a .tar");
}

/// Killed at the n-th change of the journal after the plan was made anew, for every n.
#[test]
fn killed_while_data_moves_the_same_command_goes_on() {
    let scene = Scene::new();
    scene.make_reference("reference.tar");
    scene.fail(|rule| rule.status(404));
    let images = scene.images();
    let images = images.each_ref().map(String::as_str);
    let line = export_line(&images, "b.tar", &["--keep-going"]);
    let journal = scene.desk.path().join(".b.tar.journal");
    let mut killed = 0;
    for round in 1.. {
        assert!(round < 60, "it has no end");
        // What moves is told to the journal by pwrite, and nothing else is.
        let kill = format!("pwrite64:signal=SIGKILL:when={round}");
        let Some(wrapper) = strace(&[&journal], &[&kill]) else { return };
        let run = scene.desk.wrapped(&words(&wrapper), &line);
        if !run.was_killed() {
            run.code(4);
        } else {
            killed += 1;
            assert_ne!(verify(&scene.desk, ".b.tar.partial"), 0);
            scene.proxy.wait_until_quiet();
            scene.proxy.reset_count();
            let again = scene.desk.sealift(&line);
            again.code(4).stderr_contains("team/b:1").stderr_contains("a manifest names it");
            assert_eq!(fetched(&scene.proxy), [""; 0], "everything was there");
        }
        assert!(same(&scene.desk, "b.tar", "reference.tar"), "killed at {round}");
        assert_eq!(left(&scene.desk), ["b.tar", "reference.tar"]);
        std::fs::remove_file(scene.desk.path().join("b.tar")).unwrap();
        if !run.was_killed() {
            break;
        }
    }
    assert!(killed >= 6, "only {killed} kills hit");
}

#[test]
fn what_was_left_out_of_the_plan_is_told_by_the_run_that_goes_on_too() {
    let scene = Scene::new();
    let [_, c, d] = scene.images();
    let gone = format!("{}/team/none:1", scene.proxy.host());
    scene.fail(|rule| rule.status(404));
    for form in [Form::Tar, Form::Directory] {
        // Stopped in the middle by a failure that --keep-going does not go past.
        scene.proxy.inject(Rule::on("GET", "/blobs/").after(2).delay(std::time::Duration::from_secs(30)));
        let images = [gone.as_str(), &c, &d];
        let line = export_line(&images, form.output(), &["--keep-going", "--jobs", "1"]);
        let running = scene.desk.start(&line);
        while fetched(&scene.proxy).len() < 3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        running.kill();
        scene.proxy.heal();
        let again = scene.desk.sealift(&line);
        again.code(4).stderr_contains("team/none:1").stderr_contains("an interrupted run planned");
        scene.proxy.reset_count();
    }
}

#[rstest]
#[case::tar(Form::Tar)]
#[case::directory(Form::Directory)]
fn refresh_takes_new_tags_and_keeps_what_is_the_same(#[case] form: Form) {
    let scene = Scene::new();
    let images = scene.images();
    let images = images.each_ref().map(String::as_str);
    scene.proxy.inject(Rule::on("GET", &scene.broken).status(404));
    export(&scene.desk, &images, form.output(), &["--jobs", "1"]).code(1);
    let there = form.noted(&scene.desk);
    assert!(there.len() >= 2, "{there:?}");
    scene.proxy.heal();
    // What comes first has grown, so that everything else has to make room.
    let registry = scene._registry.host();
    push_image(registry, "team/b", "1", &[&noise(9, 5 << 20), &noise(2, (2 << 20) + 17), &noise(1, 3 << 20)]);
    scene.proxy.reset_count();
    export(&scene.desk, &images, form.output(), &["--refresh"]).success();
    let again = fetched(&scene.proxy);
    let wanted = scene.desk.sealift(&["inspect", form.output(), "--trust", "allowed_signers", "--json"]).stdout();
    let kept: Vec<&String> = there.iter().filter(|hex| wanted.contains(*hex)).collect();
    assert!(again.iter().all(|hex| !there.contains(hex)), "fetched again: {again:?}");
    assert!(form == Form::Directory || !kept.is_empty() || again.len() >= 3);
    let reference = format!("reference-{}", form.output());
    export(&scene.desk, &images, &reference, &[]).success();
    assert!(same(&scene.desk, form.output(), &reference));
}
