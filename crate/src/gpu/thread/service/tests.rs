//! The GPU's thread, worked by hand on a GPU of the test's own: what depends on who comes first, and what everybody who
//! shares a GPU suffers from.

use std::borrow::Cow;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use super::*;
use crate::device::queue::Queue;
use crate::device::testing::failures::{break_fused, half_from_a_product};
use crate::device::testing::{Bench, bare, program, stream, told};
use crate::device::{Source, Target, Told};
use crate::dtype::Dtype;
use crate::gpu::Device;
use crate::gpu::adapter::{Description, Found, enumerate};
use crate::gpu::planned::Planned;
use crate::gpu::staging::CHUNK;
use crate::gpu::thread::{choose, start};
use crate::program::testing::{A, F32, I32};

/// An adapter, or nothing where there is none, which other tests say aloud.
fn adapter() -> Option<Found> {
    enumerate().unwrap().into_iter().find(|found| found.description.refusal.is_none())
}

/// A GPU with one client, whose thread the test is.
fn service() -> Option<(Service, Arc<Client>)> {
    let gpu = Gpu::open(&adapter()?).unwrap();
    let client = Client::new(&Arc::default(), &gpu.maker, None, true);
    let clients = vec![Served::new(Arc::clone(&client))];
    Some((Service { gpu, clients, rested: false }, client))
}

fn write(client: &Client, slot: u32, data: impl Into<Cow<'static, [f32]>>) {
    let source = Source::F32(data.into());
    let bytes = source.len() as u64 * 4;
    client.queue.push(Job::Write { slot, source }, bytes);
}

fn read(client: &Client, slot: u32, into: &mut [f32]) -> Receiver<Told<()>> {
    let (done, end) = told();
    // SAFETY: the tests end what they begin before they let go of `into`.
    let target = unsafe { Target::new(into.as_mut_ptr().cast(), into.len(), Dtype::F32) };
    client.queue.push(Job::Read { slot, target, done }, 0);
    end
}

fn sync(client: &Client) -> Receiver<Told<()>> {
    let (done, end) = told();
    client.queue.push(Job::Sync { done }, 0);
    end
}

/// Gathers whose index is outside, into slot 12.
fn bad_indices(client: &Client, times: usize) {
    write(client, 10, &[1.0; 4]);
    client.queue.push(Job::Write { slot: 11, source: Source::I32(Cow::Borrowed(&[9])) }, 4);
    let gather =
        program(&[(F32, &[4]), (I32, &[1])], |w, x| vec![w.op("gather", &[(F32, &[1])], x, &[A::W(0), A::W(0)])]);
    for _ in 0..times {
        client.queue.push(Job::Submit { stream: stream(&gather, &[10, 11], &[12], &[], &[]) }, 0);
    }
}

/// All jobs, submitted and finished, before anybody has asked for what they give.
fn finish(service: &mut Service) {
    while service.jobs() {}
    service.gpu.submit().unwrap();
    let begun = Instant::now();
    while !service.gpu.recorder.is_idle() {
        assert!(begun.elapsed() < Duration::from_mins(1));
        service.gpu.recorder.wait(SLICE).unwrap();
    }
}

/// A GPU of the test's own, with its thread, and a device on it.
fn device() -> Option<(Arc<Thread>, Bench)> {
    let thread = start(adapter()?).unwrap();
    let device = Device::new(Arc::clone(&thread), None, true);
    Some((thread, Bench::new(device)))
}

#[test]
fn a_read_of_a_gpu_that_has_finished_needs_no_further_bell() {
    let Some((mut service, client)) = service() else { return };
    write(&client, 1, &[1.0, 2.0]);
    let mut data = [0.0; 2];
    let end = read(&client, 1, &mut data);
    finish(&mut service);
    service.settle();
    end.try_recv().unwrap().unwrap();
    assert_eq!(data, [1.0, 2.0]);
}

#[test]
fn sync_overtakes_no_read() {
    let Some((mut service, client)) = service() else { return };
    write(&client, 1, &[1.0, 2.0]);
    let mut data = [0.0; 2];
    let ends = [read(&client, 1, &mut data), sync(&client)];
    finish(&mut service);
    let Service { gpu, clients, .. } = &mut service;
    clients[0].waiting.iter_mut().for_each(|waiting| Engine::request(gpu, waiting));
    // Not polled: the read's data has not arrived, and sync wants none.
    clients[0].settle(gpu);
    assert!(ends[1].try_recv().is_err());
    service.settle();
    for end in ends {
        end.try_recv().unwrap().unwrap();
    }
}

#[test]
fn sync_overtakes_no_check_that_the_device_reads_for_itself() {
    let Some((mut service, client)) = service() else { return };
    // So many that it does.
    bad_indices(&client, 1024);
    let end = sync(&client);
    finish(&mut service);
    let Service { gpu, clients, .. } = &mut service;
    assert_eq!(clients[0].waiting.len(), 2);
    clients[0].waiting.iter_mut().for_each(|waiting| Engine::request(gpu, waiting));
    clients[0].settle(gpu);
    assert!(end.try_recv().is_err());
    service.settle();
    assert_eq!(end.try_recv().unwrap().unwrap_err().error.code(), "ERR_ARGUMENT");
}

#[test]
fn a_panic_of_one_device_loses_the_gpu_and_nobody_waits_for_ever() {
    let Some((thread, bench)) = device() else { return };
    bench.write(1, &[1.0; 4]);
    assert_eq!(bench.read(1, 4).unwrap(), [1.0; 4]);
    let other = thread.client(None, true);
    other.queue.push(Job::Panic, 0);
    assert!(other.queue.wait_until(Duration::from_secs(10), Queue::is_idle));
    let failure = bench.read(1, 4).unwrap_err();
    assert_eq!(failure.error.code(), "ERR_DEVICE_LOST");
    assert!(failure.error.message().contains("as the test wants it"), "{}", failure.error.message());
    assert_eq!(bench.sync().unwrap_err().error.code(), "ERR_DEVICE_LOST");
}

#[test]
fn the_first_adapter_is_taken_whatever_runs() {
    let Some(found) = adapter() else { return };
    let first = found.description.clone();
    let mut threads = Vec::new();
    let wanted = |description: &Description| if *description == first { Ok(()) } else { Err("another".into()) };
    let thread = choose(&mut threads, wanted).unwrap();
    // As if a GPU that comes later in the list had been opened by its name.
    let later = Description { name: "later".into(), ..first.clone() };
    threads[0] = Arc::new(Thread {
        description: later,
        staged: Arc::default(),
        health: Arc::clone(&thread.health),
        maker: Arc::clone(&thread.maker),
        bell: Arc::clone(&thread.bell),
        arrivals: Mutex::default(),
    });
    let chosen = choose(&mut threads, |_| Ok(())).unwrap();
    assert_eq!((&chosen.description, threads.len()), (&first, 2));
    assert!(Arc::ptr_eq(&choose(&mut threads, |_| Ok(())).unwrap(), &chosen));
    let Err(error) = choose(&mut threads, |_| Err("unwanted".into())) else { panic!("none is wanted") };
    assert!(error.message().contains(&format!("{} ({}): unwanted", first.name, first.backend)), "{}", error.message());
}

#[test]
fn buffers_end_on_the_thread_of_the_gpu() {
    let Some((thread, _bench)) = device() else { return };
    let client = thread.client(None, true);
    write(&client, 1, &[1.0; 64]);
    let within = Duration::from_secs(10);
    assert!(client.queue.wait_until(within, Queue::is_idle));
    client.queue.abandon();
    let begun = Instant::now();
    while Arc::strong_count(&client) > 1 {
        assert!(begun.elapsed() < within);
        thread::yield_now();
    }
    // Until the thread rests: it has nothing to do but to listen.
    thread::sleep(IDLE * 3 / 2);
    drop(client);
    let begun = Instant::now();
    while thread.maker.has_gone() {
        assert!(begun.elapsed() < within);
        thread::yield_now();
    }
}

#[test]
fn what_a_check_has_found_is_told_when_there_is_room_to_read_it() {
    let Some((mut service, client)) = service() else { return };
    for (refusals, first) in [(1, "ERR_ARGUMENT"), (2, "ERR_OUT_OF_MEMORY")] {
        bad_indices(&client, 1);
        while service.jobs() {}
        service.gpu.staging.refusals = refusals;
        let mut code = || {
            let end = sync(&client);
            finish(&mut service);
            service.settle();
            end.try_recv().unwrap().map_or_else(|failure| failure.error.code(), |()| "no failure")
        };
        assert_eq!(code(), first);
        assert_eq!(code(), if refusals == 1 { "no failure" } else { "ERR_ARGUMENT" });
    }
}

#[test]
fn a_long_step_fills_several_submissions() {
    let Some((mut service, client)) = service() else { return };
    let count = 100_000;
    let spread = program(&[(F32, &[count]), (I32, &[count])], |w, x| {
        vec![w.op("scatterAdd", &[(F32, &[7])], x, &[A::W(0), A::W(0)])]
    });
    write(&client, 1, vec![1.0; 100_000]);
    let indices: Vec<i32> = (0..count as i32).map(|i| i % 7).collect();
    client.queue.push(Job::Write { slot: 2, source: Source::I32(Cow::Owned(indices)) }, u64::from(count) * 4);
    client.queue.push(Job::Submit { stream: stream(&spread, &[1, 2], &[3], &[], &[]) }, 0);
    // As if the step were estimated at hours.
    service.gpu.recorder.most_work = 0;
    let before = service.gpu.recorder.next_submission();
    while service.jobs() {}
    assert!(service.gpu.recorder.next_submission() >= before + 2);
    let mut sums = [0.0; 7];
    let end = read(&client, 3, &mut sums);
    finish(&mut service);
    service.settle();
    end.try_recv().unwrap().unwrap();
    let expected = [0, 1, 2, 3, 4, 5, 6].map(|i| ((count - i).div_ceil(7)) as f32);
    assert_eq!(sums, expected);
}

#[test]
fn a_product_that_fails_takes_along_what_comes_from_it_and_nothing_else() {
    let Some((mut service, client)) = service() else { return };
    let writer = half_from_a_product();
    let mut planned = Planned::new(&writer.code, true, service.gpu.traits()).unwrap();
    break_fused(&mut planned.plan);
    client.queue.push(Job::Keep { program: 7, planned: Box::new(planned) }, 0);
    write(&client, 1, &[2.0; 4]);
    client.queue.push(Job::Run { program: 7, stream: bare(&stream(&writer, &[1, 1], &[5, 6], &[], &[])) }, 0);
    let (mut lost, mut kept) = ([0.0; 4], [0.0; 4]);
    let (no_end, end) = (read(&client, 5, &mut lost), read(&client, 6, &mut kept));
    finish(&mut service);
    service.settle();
    assert_eq!(no_end.try_recv().unwrap().unwrap_err().error.code(), "ERR_INTERNAL");
    end.try_recv().unwrap().unwrap();
    assert_eq!(kept, [-2.0; 4]);
    let end = sync(&client);
    finish(&mut service);
    service.settle();
    end.try_recv().unwrap().unwrap();
}

#[test]
fn large_data_fills_several_submissions() {
    let Some((mut service, client)) = service() else { return };
    // Two chunks and a bit, each found by its last number.
    let chunk = (CHUNK / 4) as usize;
    let mut data = vec![0.0; 2 * chunk + 2];
    for (value, end) in (1_u8..).zip([chunk, 2 * chunk, 2 * chunk + 2]) {
        data[end - 1] = f32::from(value);
    }
    let size = data.len() as u32;
    let before = service.gpu.recorder.next_submission();
    write(&client, 1, data);
    while service.jobs() {}
    // The rest waits for company.
    assert_eq!(service.gpu.recorder.next_submission(), before + 2);
    let ends = program(&[(F32, &[size])], |w, x| {
        let before = [chunk as u32 - 1, 2 * chunk as u32 - 1, size - 2];
        before.map(|start| w.op("slice", &[(F32, &[2])], x, &[A::L(&[start])])).to_vec()
    });
    client.queue.push(Job::Submit { stream: stream(&ends, &[1], &[2, 3, 4], &[], &[]) }, 0);
    let mut found = [[9.0; 2]; 3];
    let told: Vec<_> = (2..).zip(&mut found).map(|(slot, found)| read(&client, slot, found)).collect();
    finish(&mut service);
    service.settle();
    for end in told {
        end.try_recv().unwrap().unwrap();
    }
    assert_eq!(found, [[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]);
}

#[test]
fn trimming_lets_go_of_the_buffers_of_streams() {
    let Some((mut service, client)) = service() else { return };
    client.queue.recycle(Vec::with_capacity(1000));
    let (done, end) = told();
    client.queue.push(Job::Trim { done }, 0);
    finish(&mut service);
    service.settle();
    end.try_recv().unwrap().unwrap();
    assert!(client.queue.copy(&[1]).unwrap().capacity() < 1000);
}
