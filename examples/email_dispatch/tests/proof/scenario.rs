//! The nine steps of a broker's outage, and what is said when one is not as it should be.

use std::{ffi::OsString, time::Duration};

use email_dispatch::{
    cli::Cli,
    demonstration,
    scenario::{Cluster, Deviation, Step, play},
    service::Service,
    stage::assemble,
};

use tokio::{runtime::Handle, task::block_in_place};

use crate::{
    kafka::TestKafka,
    process::{program, run},
    world::{self, World},
};

const BOUND: Duration = Duration::from_secs(40);

/// A cluster that does as it is told, or not.
struct Broker<'a> {
    kafka: &'a TestKafka,
    stops: bool,
    resumes: bool,
}

impl Cluster for Broker<'_> {
    async fn stop(&self) -> Result<(), String> {
        if self.stops {
            self.kafka.stop();
        }
        Ok(())
    }

    async fn resume(&self) -> Result<(), String> {
        if !self.resumes {
            return Err("it will not".to_owned());
        }
        // A real one takes seconds, in a future that cannot be sent to another thread.
        block_in_place(|| Handle::current().block_on(self.kafka.resume()));
        Ok(())
    }
}

/// Plays it with a service in this process, and says which steps were passed.
async fn played(world: &World, broker: &Broker<'_>, bound: Duration) -> (Vec<Step>, Result<(), Deviation>) {
    let environment = world.environment(&[]);
    let read = |name: &str| environment.iter().find(|(known, _)| known == name).map(|(_, value)| OsString::from(value));
    let settings = Cli::read(["email_dispatch", "serve"].map(OsString::from), &read).unwrap().settings;
    let backups = tempfile::tempdir().unwrap();
    let settings = demonstration::settings(settings, backups.path());
    let (parts, _embedded) = assemble(&settings).await.unwrap();
    let service = Service::start(parts).unwrap();
    let mut passed = Vec::new();
    let end = play(&service, broker, bound, |step, _| passed.push(step)).await;
    service.shut_down(Duration::from_secs(5)).await;
    (passed, end)
}

in_each_world! {
    async fn all_nine_steps_are_as_they_should_be(world) {
        let broker = Broker { kafka: &world.kafka, stops: true, resumes: true };
        let (passed, end) = played(world, &broker, BOUND).await;
        assert_eq!(end, Ok(()));
        assert_eq!(passed, Step::ALL);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_stop_is_a_deviation_at_step_5() {
    world::embedded(async |world| {
        let broker = Broker { kafka: &world.kafka, stops: false, resumes: true };
        let (_, end) = played(world, &broker, Duration::from_secs(10)).await;
        assert_eq!(end.unwrap_err().step as u8, 5);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_does_not_come_back_is_a_deviation_at_step_7() {
    world::embedded(async |world| {
        let broker = Broker { kafka: &world.kafka, stops: true, resumes: false };
        let (_, end) = played(world, &broker, BOUND).await;
        let deviation = end.unwrap_err();
        assert_eq!(deviation.step as u8, 7);
        assert!(deviation.to_string().contains("it will not"), "{deviation}");
    })
    .await;
}

#[tokio::test]
async fn the_command_says_each_step_and_ends_well() {
    let Some(program) = program() else { return };
    let place = tempfile::tempdir().unwrap();
    let said = run(&program, &["scenario"], &[], place.path()).await.well();
    for step in Step::ALL {
        assert!(said.contains(&format!("{}  {}", step as u8, step.title())), "{said}");
    }
}

#[tokio::test]
async fn the_exit_code_of_the_command_names_the_step_that_deviates() {
    let Some(program) = program() else { return };
    let place = tempfile::tempdir().unwrap();
    // Without the templates that its requests name, none of them is accepted in normal traffic, step 3.
    let templates = place.path().join("templates");
    std::fs::create_dir_all(templates.join("other")).unwrap();
    std::fs::write(templates.join("other/subject.txt"), "Hello").unwrap();
    std::fs::write(templates.join("other/body.txt"), "Hello").unwrap();
    let said = run(&program, &["scenario", "--templates-dir", "templates"], &[], place.path()).await;
    assert_eq!(said.code, 13, "{said:?}");
    assert!(said.errors.contains("step 3 (normal traffic)"), "{said:?}");
}
