// What programs that drive a broker on the same machine can do with the driver class they have.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { PROGRAM, atEnd, folder, isAlive, register, startBroker, until, within, workspace } from './support.mjs';

test('a program connects by connection.json, starts an agent, talks to it, looks at it and ends it', async (t) => {
  const broker = await startBroker(t, folder(t));
  const client = HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  assert.deepEqual(await client.listAgents(), []);
  const events = listen(client);

  const session = await client.getSession();
  assert.deepEqual([session.protocol_version, session.workspace_key, session.relay_base_url], [2, broker.workspace_key, broker.engine_url]);
  assert.equal(typeof (await client.healthCheck()).service, 'string');

  const agent = await client.spawnPty({ name: 'echo', cli: 'cat', channels: ['general'] });
  assert.equal(agent.name, 'echo');
  await events.first(({ kind, name }) => kind === 'worker_ready' && name === 'echo');
  const [listed] = await client.listAgents();
  assert.deepEqual([listed.name, listed.runtime, listed.cli], ['echo', 'pty', 'cat']);
  assert.equal(typeof listed.pid, 'number');

  const sent = await client.sendMessage({ to: 'echo', from: 'ada', text: 'good morning' });
  assert.deepEqual(sent.targets, ['echo']);
  const verified = await events.first(({ kind, name }) => kind === 'delivery_verified' && name === 'echo');
  assert.equal(verified.event_id, sent.event_id);
  const picture = await client.snapshot('echo');
  assert.match(picture.screen, /good morning/);
  assert.equal(picture.format, 'plain');

  const { name, rows, cols } = await client.resizePty('echo', 30, 100);
  assert.deepEqual({ name, rows, cols }, { name: 'echo', rows: 30, cols: 100 });
  assert.equal((await client.snapshot('echo')).rows, 30);
  assert.equal((await client.sendInput('echo', 'typed by hand\r')).bytes_written, 14);
  await until(async () => (await client.snapshot('echo')).screen.includes('typed by hand'), 'the typed text on the screen');
  const stream = client.openInputStream('echo');
  await within(stream.waitUntilOpen(), 'the input stream to open');
  assert.equal((await within(stream.send('by a stream\r'), 'the ack of the input')).bytes_written, 12);
  stream.close();
  await until(async () => (await client.snapshot('echo')).screen.includes('by a stream'), 'the streamed text on the screen');

  assert.equal(await client.getInboundDeliveryMode('echo'), 'auto_inject');
  assert.equal((await client.setInboundDeliveryMode('echo', 'manual_flush')).mode, 'manual_flush');
  await client.sendMessage({ to: 'echo', from: 'ada', text: 'wait for it' });
  const [pending] = await until(async () => { const all = await client.getPending('echo'); return all.length && all; }, 'the held message');
  assert.deepEqual([pending.body, pending.from], ['wait for it', 'ada']);
  assert.deepEqual(await client.flushPending('echo'), { flushed: 1 });
  await until(async () => (await client.snapshot('echo')).screen.includes('wait for it'), 'the held message on the screen');
  assert.equal((await client.setInboundDeliveryMode('echo', 'auto_inject')).mode, 'auto_inject');

  const metrics = await client.getMetrics('echo');
  assert.deepEqual(metrics.agents.map(({ name }) => name), ['echo']);
  assert.ok(metrics.agents[0].pid > 0 && metrics.agents[0].memory_bytes > 0);
  const status = await client.getStatus();
  assert.deepEqual([status.agent_count, status.agents[0].name, status.auth.authenticated], [1, 'echo', true]);
  assert.ok(Array.isArray((await client.getCrashInsights()).recent));
  assert.equal((await client.renewLease()).renewed, true);
  assert.ok(await client.getConfig());
  assert.deepEqual(await client.preflight([{ name: 'w9', cli: 'cat' }, { name: 'w8', cli: 'cat' }]), { queued: 2 });
  const relay = workspace(broker);
  const w9 = await until(() => relay.agents.get('w9'), 'w9 to be registered');
  const ada = await register(t, relay, 'ada');
  await ada.me.dm('w9', 'before you came');
  await client.spawnPty({ name: 'w9', cli: 'cat' });
  await until(async () => (await client.snapshot('w9')).screen.includes('before you came'), 'mail from before its start');
  assert.equal((await relay.agents.get('w9')).id, w9.id, 'it is the one that was registered');
  await client.release('w9');
  for (const wish of [
    () => client.setModel('echo', 'some-model'),
  ]) {
    await assert.rejects(wish(), { code: 'unsupported_operation', status: 400 }, 'what is not offered is refused, not ignored');
  }

  const listening = await client.subscribeChannels('echo', ['ops']);
  assert.deepEqual(listening?.channels ?? ['general', 'ops'], ['general', 'ops']);
  await events.first(({ kind, channels }) => kind === 'channel_subscribed' && channels.includes('ops'));
  await client.unsubscribeChannels('echo', ['#ops']);
  await events.first(({ kind, channels }) => kind === 'channel_unsubscribed' && channels.includes('ops'));
  await assert.rejects(client.subscribeChannels('nobody', ['ops']), { code: 'agent_not_found', status: 404 });

  assert.equal((await client.release('echo', 'done')).name, 'echo');
  await events.first(({ kind, name }) => kind === 'agent_released' && name === 'echo');
  assert.deepEqual(await client.listAgents(), []);
  await assert.rejects(client.snapshot('echo'), { code: 'agent_not_found', status: 404 });
});

test('a program follows what an agent prints', async (t) => {
  const broker = await startBroker(t, folder(t));
  const client = HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  const stream = client.subscribeWorkerStream('echo')[Symbol.asyncIterator]();
  const events = listen(client);
  await client.spawnPty({ name: 'echo', cli: 'cat' });
  await events.first(({ kind, name }) => kind === 'worker_ready' && name === 'echo');
  await client.sendInput('echo', 'seen-in-the-stream\r');
  let text = '';
  await within((async () => {
    while (!text.includes('seen-in-the-stream')) text += (await stream.next()).value;
  })(), () => `the text in ${JSON.stringify(text)}`);
  await stream.return();
});

test('a program starts a broker of its own, uses its workspace, and ends it', async (t) => {
  const dir = folder(t);
  const { PATH } = process.env;
  const client = await HarnessDriverClient.spawn({
    binaryPath: PROGRAM,
    cwd: dir,
    brokerName: 'mine',
    binaryArgs: { persist: true },
    env: { PATH, HOME: dir, XDG_DATA_HOME: `${dir}/data` },
    startupTimeoutMs: 10_000,
  });
  const pid = client.brokerPid;
  atEnd(t, async () => { await client.shutdown(); });
  const agent = await client.spawnPty({ name: 'echo', cli: 'cat' });
  assert.equal(agent.name, 'echo');
  const { workspace_key: key, relay_base_url: url } = await client.getSession();
  const { me } = await register(t, workspace({ url, key }), 'ada');
  await me.dm('echo', 'hello from outside');
  await until(async () => (await client.snapshot('echo')).screen.replaceAll('\n', '').includes('hello from outside'), 'the message on the screen');
  await me.disconnect();
  await client.shutdown();
  await until(() => !isAlive(pid), 'the broker to be gone');
});

/** Collects the broker's events. */
function listen(client) {
  const all = [];
  const listeners = new Set();
  client.onEvent((event) => {
    all.push(event);
    for (const listener of listeners) listener(event);
  });
  client.connectEvents();
  return {
    first(fits) {
      const old = all.find(fits);
      if (old) return old;
      return within(new Promise((ok) => {
        listeners.add((event) => fits(event) && ok(event));
      }), () => `an event after ${JSON.stringify(all.map(({ kind, name }) => [kind, name]))}`);
    },
  };
}
