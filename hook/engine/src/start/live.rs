//! The live stage: the runtime has made the container's mounts and not yet pivoted, and the volumes are brought in. And its
//! end: what is provably dead of a container is given back.

use crate::bundle::read_claiming_spec;
use crate::bundle::read_spec;
use crate::bundle::read_spec_file;
use crate::context::Context;
use crate::engine::Engine;
use crate::failpoint;
use crate::failure::Failure;
use crate::host_grants;
use crate::image::Image;
use crate::laps::Laps;
use crate::start::acquire;
use crate::start::acquire::acquire;
use crate::start::claim;
use crate::start::execute;
use crate::start::root;
use crate::start::root::Called;
use crate::start::spec::new_attempt;
use crate::start::storage;
use crate::start::subject::Subject;
use crate::start::undo::undone;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;
use tracing::Span;
use tracing::debug_span;
use tracing::info_span;
use volhook_core::check::check;
use volhook_core::claims;
use volhook_core::claims::Wishes;
use volhook_core::decision::Access;
use volhook_core::last_step::PodRoot;
use volhook_core::last_step::WhyFolders;
use volhook_core::lease::Grant;
use volhook_core::lease::Holder;
use volhook_core::lease::LeasedVolume;
use volhook_core::names::ContainerId;
use volhook_core::names::VolumeId;
use volhook_core::plan;
use volhook_core::plan::Note;
use volhook_core::plan::Plan;
use volhook_core::record::LeaseRecord;
use volhook_core::record::ReleaseReason;
use volhook_core::record::Step;
use volhook_core::rewrite;
use volhook_core::spec::Spec;
use volhook_core::spec::VOLHOOK_TYPE;
use volhook_core::stage::Stage;
use volhook_core::state::State;
use volhook_core::volume::Volume;
use volhook_journal::Interest;
use volhook_leases::Work;
use volhook_leases::attempts::Record;
use volhook_leases::judge;
use volhook_leases::judge::Verdict;
use volhook_leases::patience;
use volhook_mounts::process;
use volhook_mounts::process::Process;
use volhook_mounts::rootfs::Rootfs;

/// What the spec stage wrote into the entry by which the live stage is called.
#[derive(Debug, Clone, Copy)]
pub struct Planned<'a> {
    /// The attempt.
    pub attempt: &'a str,
    /// The spec's file, if it is not the bundle's `config.json`.
    pub spec_file: Option<&'a Path>,
}

/// prestart and createRuntime: the container gets its volumes. `planned` is given in entries that the spec stage wrote. `marked`
/// stands in entries of bundles whose runtime runs the program of a last step ([`volhook_core::last_step::MARK`]): then that is
/// put into the container, whatever it claims.
///
/// # Errors
/// Why the container must not start; nothing is held for it then.
pub fn live(
    engine: &Engine,
    state: &State,
    planned: Option<Planned<'_>>,
    marked: bool,
    work: &Work<'_>,
) -> Result<(), Failure> {
    let laps = Laps::begun();
    let context = &Context::new(engine, *work).timed(&laps);
    let attempt = planned.map(|planned| planned.attempt);
    let _start = info_span!("start", container = state.raw_id, attempt).entered();
    let started = match planned {
        None => unplanned(context, state).and_then(|has_program| {
            if marked && !has_program {
                root::put_program(state, &container_process(state)?)?;
            }
            Ok(())
        }),
        Some(planned) => {
            bound(context, state, planned).map_err(|failure| failure.of_attempt(planned.attempt))
        }
    };
    context.tell_untold();
    started
}

/// Everything from the spec to the mounts. Returns whether the container has the program of a last step where its runtime runs
/// it.
fn unplanned(context: &Context<'_>, state: &State) -> Result<bool, Failure> {
    let bundle = state.bundle()?;
    let reading = context.enter(Step::Spec, debug_span!("spec"));
    let Some((spec, wishes)) = wishes(context, state, bundle)? else { return Ok(false) };
    drop(reading);
    let prefix = &context.config()?.annotation_prefix;
    if wishes.planned.is_some() {
        return planned_before(context, &spec, prefix).map(|()| true);
    }
    let mounts = spec.mounts()?;
    if let Some(mount) = mounts.iter().find(|mount| mount.kind == VOLHOOK_TYPE) {
        return Err(claims::ClaimError::LiveSpecMount { destination: mount.destination.clone() }.into());
    }
    let id = state.id()?;
    let looking = context.enter(Step::Process, debug_span!("process"));
    let process = container_process(state)?;
    let root_path = bundle.join(spec.root_path()?);
    let rootfs = container_rootfs(&id, &process, &root_path)?;
    let holder = holder_of(context, &process)?;
    drop(looking);
    let folders = match wishes.pod() {
        Some(_) => root::obstacle_in(&spec)
            .map_or_else(|| root::obstacle_of(&process, &root_path), |why| Ok(Some(why)))?,
        None => None,
    };
    let called = Called::by(&spec);
    let attempt = new_attempt();
    Span::current().record("attempt", &attempt);
    let subject = Subject {
        attempt,
        stage: Stage::Live,
        container: id,
        tenant: claims::tenant(&spec.annotations()?, context.config()?.tenant_annotation.as_deref())?,
        wishes,
        mounts,
        user_namespace: spec.has_user_namespace(),
        folders,
    };
    let image = Image::new(&root_path, &rootfs, &spec.annotations()?).for_users(subject.user_namespace);
    let claimed = claim::claim(context, &subject, &rootfs, &image)
        .map_err(|failure| storage::offer(context, &subject, &image, failure).of_attempt(&subject.attempt))?;
    if claimed.claims.is_empty() {
        return acquire::note_stepped_back(context, &subject, &claimed).map(|()| false);
    }
    let document = spec.into_document();
    let started = acquire(context, &subject, &claimed, &image, Some(&holder), |proposal| {
        // Mounts come last: nothing that fails before them leaves a volume in a container without a lease.
        let recording = context.enter(Step::Record, debug_span!("record"));
        let record = Record::new(proposal.plan.clone(), Some(holder.clone()), document);
        context.ledger.attempts().write(&record)?;
        drop(recording);
        failpoint::reached("recorded")?;
        execute::mount(context, &record.plan, &proposal.volumes, &process, &root_path, &called)
    });
    started.map(|_| true).map_err(|failure| failure.of_attempt(&subject.attempt))
}

/// The createRuntime entry that the spec stage wrote: the pending grant is tied to the container's process,
/// and what the spec could not express is injected.
fn bound(context: &Context<'_>, state: &State, planned: Planned<'_>) -> Result<(), Failure> {
    let attempt = planned.attempt;
    match tie(context, state, attempt) {
        Ok(None) => Ok(()),
        Ok(Some((process, holder))) => mount_bound(context, state, planned, (&process, holder))
            .map_err(|failure| undone(context, attempt, None, failure)),
        // Nobody comes for them any more.
        Err(failure) if is_pending(context, attempt) => Err(undone(context, attempt, None, failure)),
        Err(failure) => Err(failure),
    }
}

/// Whether an attempt has leases that are no process's yet.
fn is_pending(context: &Context<'_>, attempt: &str) -> bool {
    let interest = Interest { attempts: &[attempt], ..Interest::default() };
    let table = context.grants_about(&interest);
    table.is_ok_and(|table| table.grant(attempt).is_some_and(|grant| grant.holder.is_none()))
}

/// Ties the leases of an attempt to the container's process. `None`: they are already.
fn tie(context: &Context<'_>, state: &State, attempt: &str) -> Result<Option<(Process, Holder)>, Failure> {
    let looking = context.enter(Step::Process, debug_span!("process"));
    let process = container_process(state)?;
    let holder = holder_of(context, &process)?;
    drop(looking);
    let _binding = context.enter(Step::Journal, debug_span!("journal"));
    let interest = Interest { attempts: &[attempt], ..Interest::default() };
    let container = state.id()?;
    let mut locked = context.lock(context.deadline)?;
    match locked.about(&interest).map_err(Failure::new)?.grant(attempt) {
        None => Err(Failure::new(format!(
            "the leases of attempt {attempt} were given up before the container came"
        ))
        .hint("start the container again; its spec has to be planned anew")),
        Some(grant) if grant.holder.as_ref() == Some(&holder) => Ok(None),
        Some(grant) if grant.holder.is_some() => Err(Failure::new(format!(
            "the spec of attempt {attempt} is already used by container {:?}",
            grant.container
        ))
        .hint("every start needs its spec planned anew")),
        Some(_) => {
            let attempt = attempt.to_owned();
            let tied = LeaseRecord::Bound { attempt, container, holder: holder.clone() };
            locked.append(Timestamp::now(), &[tied]).map_err(Failure::new)?;
            Ok(Some((process, holder)))
        }
    }
}

/// What is left to do of the plan of an attempt once its leases are the container's.
fn mount_bound(
    context: &Context<'_>,
    state: &State,
    planned: Planned<'_>,
    (process, holder): (&Process, Holder),
) -> Result<(), Failure> {
    failpoint::reached("bound")?;
    let reading = context.enter(Step::Spec, debug_span!("spec"));
    let bundle = state.bundle()?;
    let mut record = context.ledger.attempts().read(planned.attempt)?;
    // At the spec stage it may have had no name yet, and who stops it only knows this one.
    record.plan.container = state.id()?;
    let spec = match planned.spec_file {
        Some(file) => read_spec_file(file)?,
        None => read_spec(bundle)?,
    };
    drop(reading);
    let root_path = bundle.join(spec.root_path()?);
    let looking = context.enter(Step::Volumes, debug_span!("volumes"));
    let volumes = find_volumes(context, &record.plan)?;
    drop(looking);
    let seen = context.enter(Step::Resolve, debug_span!("resolve"));
    let mut plan = seen_in_container(context, &spec, record.plan, &volumes, process, &root_path)?;
    let called = Called::by(&spec);
    let obstacle = || match called.has_entry {
        true => root::obstacle_of(process, &root_path),
        false => Ok(Some(WhyFolders::NoEntry)),
    };
    if plan.root == Some(PodRoot::Overlay)
        && let Some(why) = obstacle()?
    {
        let note = plan::keep_folders(&mut plan, why);
        plan.notes.extend(note.clone());
        note_late(context, &plan, note)?;
    }
    drop(seen);
    let recording = context.enter(Step::Record, debug_span!("record"));
    let record = Record::new(plan, Some(holder), record.spec);
    context.ledger.attempts().write(&record)?;
    drop(recording);
    execute::mount(context, &record.plan, &volumes, process, &root_path, &called)
}

/// Records a remark that came up after the leases were taken.
fn note_late(context: &Context<'_>, plan: &Plan, note: Option<Note>) -> Result<(), Failure> {
    let Some(note) = note else { return Ok(()) };
    let (container, volume) = (plan.container.clone(), Some(note.volume));
    let record = LeaseRecord::Note { container, volume, text: note.text };
    context.lock(context.deadline)?.append(Timestamp::now(), &[record]).map_err(Failure::new)
}

/// The plan of the spec stage with what only the container's mounts show.
fn seen_in_container(
    context: &Context<'_>,
    spec: &Spec,
    mut plan: Plan,
    volumes: &BTreeMap<VolumeId, Volume>,
    process: &Process,
    root_path: &Path,
) -> Result<Plan, Failure> {
    if !plan.mounts.iter().any(|mount| mount.unseen) {
        return Ok(plan);
    }
    let rootfs = container_rootfs(&plan.container, process, root_path)?;
    let mounts = spec.mounts()?;
    let unseen = plan.mounts.iter().filter(|mount| mount.unseen).map(|mount| mount.target.clone());
    let resolved = claim::resolve(&rootfs, unseen, &mounts);
    plan::look_again(&mut plan, &mounts, &resolved)?;
    let leased: Vec<VolumeId> = plan.leases.iter().map(|lease| lease.volume.clone()).collect();
    let table = context.grants_about(&Interest { volumes: &leased, ..Interest::default() })?;
    check(&plan, volumes, &context.config()?.grants, &table)?;
    Ok(plan)
}

fn container_rootfs(id: &ContainerId, process: &Process, root_path: &Path) -> Result<Rootfs, Failure> {
    Rootfs::of_process(process, root_path).map_err(|error| {
        Failure::context(format!("cannot open the root filesystem of container {id:?}"), error)
    })
}

/// The plan's volumes, which may still be what was planned.
fn find_volumes(context: &Context<'_>, plan: &Plan) -> Result<BTreeMap<VolumeId, Volume>, Failure> {
    let find = |lease: &LeasedVolume| {
        let failed = |what| {
            let reason = format!("volume {:?} {what} while its container started", lease.volume);
            Failure::new(reason).about(lease.volume.clone())
        };
        let found = context.store.find(&lease.volume).map_err(Failure::new)?;
        let volume = found.filter(|volume| volume.uuid == lease.uuid).ok_or_else(|| failed("was removed"))?;
        let most = host_grants::most_access(context, &volume)?;
        if most == Access::ReadOnly && lease.access == Access::ReadWrite {
            return Err(failed("became read-only").hint("start the container again"));
        }
        Ok((volume.id.clone(), volume))
    };
    plan.leases.iter().map(find).collect()
}

/// The wishes of a container, with its spec; `None` when it has none and starts untouched.
fn wishes(context: &Context<'_>, state: &State, bundle: &Path) -> Result<Option<(Spec, Wishes)>, Failure> {
    let by_state = context.wishes(&state.annotations);
    let none_by_state =
        !claims::could_be_claims(&state.annotations) && by_state.as_ref().is_ok_and(Wishes::is_empty);
    let all_in_state = state.spec_annotations().is_some();
    // The spec is not needed to know that the container is not ours; it may not even be the one that is here.
    if none_by_state && all_in_state {
        return Ok(None);
    }
    let file = bundle.join("config.json");
    let spec = match read_claiming_spec(context, &file) {
        Ok(Some(spec)) => spec,
        Ok(None) if all_in_state => return Err(another_spec(&file)),
        Ok(None) => return Ok(None),
        // Runtimes copy the spec's annotations into the state. If there are some, and neither a claim nor what a rule is
        // for is among them, that is as good.
        Err(_) if !state.annotations.is_empty() && none_by_state => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let annotations = spec.annotations()?;
    let wishes = context.wishes(&annotations)?;
    if all_in_state {
        let tenant = context.config()?.tenant_annotation.as_deref();
        let same_tenant = tenant.is_none_or(|key| annotations.get(key) == state.annotations.get(key));
        if by_state? != wishes || !same_tenant || state.root.as_deref() != spec.root_path().ok() {
            return Err(another_spec(&file));
        }
    }
    Ok((!wishes.is_empty()).then_some((spec, wishes)))
}

fn another_spec(file: &Path) -> Failure {
    Failure::new(format!("the container was not made from {}, which asks for something else", file.display()))
        .hint("a spec of another name (crun's --config) gets its volumes from `volhook runtime`, or is to be config.json")
}

/// A spec that the spec stage has planned needs nothing from an entry without a token, if the entry with the
/// token is there to do it.
fn planned_before(context: &Context<'_>, spec: &Spec, prefix: &str) -> Result<(), Failure> {
    let planned = rewrite::strip(&mut spec.clone(), prefix, &|source| context.is_volume_source(source))?;
    let Some(planned) = planned else { return Ok(()) };
    if rewrite::has_entry(spec, &planned.attempt) {
        return context.ledger.attempts().read(&planned.attempt).map_err(Failure::from).map(|_| ());
    }
    Err(Failure::new(format!(
        "the spec was planned as attempt {:?}, and the hook entry of that is missing",
        planned.attempt
    ))
    .hint("start from the spec as it was before, or run `volhook bundle install` on the bundle"))
}

fn holder_of(context: &Context<'_>, process: &Process) -> Result<Holder, Failure> {
    process::holder(context.ledger.host()?, process)
        .map_err(|error| Failure::context("cannot identify the container's process", error))
}

fn container_process(state: &State) -> Result<Process, Failure> {
    process::container_process(state.pid()?).map_err(|error| {
        Failure::context(format!("cannot use the process of container {:?}", state.raw_id), error)
    })
}

/// poststop: what is provably dead of this container is given back. It cannot be retried.
///
/// # Errors
/// What could not be given back; whoever needs it next finds it dead.
pub fn stop(engine: &Engine, state: &State, attempt: Option<&str>, work: &Work<'_>) -> Result<(), Failure> {
    let laps = Laps::begun();
    let context = &Context::new(engine, *work).timed(&laps);
    let _stop = info_span!("stop", container = state.raw_id, attempt).entered();
    let _releasing = context.enter(Step::Release, debug_span!("release"));
    // An id that is no id holds nothing.
    state.id().map_or(Ok(()), |id| give_back(context, &id, attempt))
}

fn give_back(context: &Context<'_>, container: &ContainerId, attempt: Option<&str>) -> Result<(), Failure> {
    let patience = (Instant::now() + patience::DYING).min(context.deadline);
    let attempts: Vec<&str> = attempt.into_iter().collect();
    let interest = Interest { container: Some(container), attempts: &attempts, ..Interest::default() };
    let table = context.grants_about(&interest)?;
    // One that was rebuilt may be known by the name from before the container had one.
    let is_own = |grant: &Grant| Some(grant.attempt.as_str()) == attempt;
    let mut first_failure = Ok(());
    // How long the stop took is told once, however many grants end with it.
    let mut steps = Some(|| context.steps());
    for grant in table.grants().filter(|grant| grant.container == *container || is_own(grant)) {
        let evidence = if is_own(grant) && grant.holder.is_none() {
            Ok(Some("the container stopped before its createRuntime hook".to_owned()))
        } else {
            proof_of_death(context, grant, patience)
        };
        let result = evidence.and_then(|evidence| match evidence {
            None => Ok(()),
            Some(evidence) => {
                failpoint::reached("judged")?;
                let steps = steps.take().map(|steps| steps()).unwrap_or_default();
                context
                    .ledger
                    .release(grant, ReleaseReason::Poststop, evidence, steps, &context.work())
                    .map_err(Failure::from)
                    .and_then(|()| {
                        failpoint::reached("released")?;
                        context.ledger.attempts().remove(&grant.attempt).map_err(Failure::from)
                    })
            }
        });
        // One grant in trouble is no reason to keep the others.
        first_failure = first_failure.and(result);
    }
    first_failure
}

/// What proves that the grant's container is dead, waiting until `patience` for the kernel to let go of its volumes.
fn proof_of_death(
    context: &Context<'_>,
    grant: &Grant,
    patience: Instant,
) -> Result<Option<String>, Failure> {
    loop {
        match judge::judge(&context.ledger, grant)? {
            Verdict::Dead { evidence, .. } => return Ok(Some(evidence)),
            Verdict::Dying { .. } if Instant::now() < patience => thread::sleep(Duration::from_millis(2)),
            Verdict::Dying { .. } | Verdict::Held { .. } => return Ok(None),
        }
    }
}
