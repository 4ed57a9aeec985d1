// Every method of the driver's class, called against the built broker: one that a new version brings is asked for here.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { PROGRAM, atEnd, folder, isAlive, startBroker, until, within } from './support.mjs';

/** Methods that only the class itself calls. */
const PRIVATE = ['constructor', 'runBeforeSpawn', 'spawnCliWithContext', 'emitAfterSpawn', 'notifyBrokerExit', 'installManagedBrokerExitHandler'];

/** A folder with programs of ours that speak as the real ones do without a terminal. */
function programs(t) {
  const dir = folder(t);
  const said = {
    claude: `while read -r line; do
      key=$(printf %s "$line" | sed 's/.*"uuid":"\\([^"]*\\)".*/\\1/')
      printf '{"type":"system","subtype":"init","session_id":"s1"}\\n{"type":"user","uuid":"%s","isReplay":true}\\n' "$key"
      printf '{"type":"assistant","message":{"content":[{"type":"text","text":"seen"}]}}\\n{"type":"result"}\\n'
    done`,
    opencode: `cat > /dev/null
    printf '{"type":"step_start","sessionID":"ses_1"}\\n{"type":"text","sessionID":"ses_1","part":{"text":"seen"}}\\n'`,
  };
  for (const [name, text] of Object.entries(said)) {
    fs.writeFileSync(path.join(dir, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  }
  return dir;
}

test('every method of the class does what it says', async (t) => {
  const broker = await startBroker(t, folder(t), { env: { PATH: `${programs(t)}:${process.env.PATH}` } });
  const client = HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  const called = new Set();
  const use = new Proxy(client, {
    get(target, name) {
      if (typeof target[name] !== 'function') return target[name];
      return (...args) => {
        called.add(name);
        return target[name](...args);
      };
    },
  });
  const seen = [];
  const stop = use.onEvent((event) => seen.push(event));
  use.connectEvents(0);
  const heard = (kind, name) => until(() => seen.some((e) => e.kind === kind && e.name === name), `${kind} of ${name}`);
  const before = [];
  const hook = (context) => { before.push(context); return { args: ['-u'] }; };
  use.addListener('beforeAgentSpawn', hook);

  assert.equal((await use.getSession()).protocol_version, 2);
  assert.equal((await use.healthCheck()).service, 'agent-relay-listen');
  assert.equal(use.brokerPid, undefined, 'it is not the client who started it');
  assert.deepEqual(await use.preflight([{ name: 'ada', cli: 'cat' }]), { queued: 1 });
  const agent = await use.spawnPty({ name: 'ada', cli: 'cat' });
  assert.deepEqual([agent.name, agent.runtime, before.length], ['ada', 'pty', 1]);
  use.removeListener('beforeAgentSpawn', hook);
  assert.equal((await use.spawnCli({ name: 'bob', cli: 'cat', transport: 'pty' })).runtime, 'pty');
  await heard('worker_ready', 'ada');
  await heard('worker_ready', 'bob');
  // Agents without a terminal, by each way of asking for one.
  for (const [cli, wish] of [
    ['claude', () => use.spawnHeadless({ name: 'eve', cli: 'claude', task: 'look around' })],
    ['opencode', () => use.spawnCli({ name: 'eve', cli: 'opencode', task: 'look around' })],
    ['opencode', () => use.spawnOpencode({ name: 'eve', task: 'look around' })],
    ['claude', () => use.spawnClaude({ name: 'eve', transport: 'headless', task: 'look around' })],
  ]) {
    const since = seen.length;
    const eve = await wish();
    assert.deepEqual([eve.name, eve.runtime], ['eve', 'headless'], cli);
    await until(() => seen.slice(since).some((e) => e.kind === 'delivery_verified' && e.name === 'eve'), `the task of ${cli}`);
    await until(() => seen.slice(since).some((e) => e.kind === 'worker_stream' && e.name === 'eve' && /seen/.test(e.chunk)), 'its words');
    await assert.rejects(use.snapshot('eve', 'plain'), { code: 'unsupported_runtime', status: 409 });
    await use.release('eve');
  }
  assert.deepEqual((await use.listAgents()).map(({ name }) => name), ['ada', 'bob']);

  const stream = use.subscribeWorkerStream('ada')[Symbol.asyncIterator]();
  assert.equal((await use.sendInput('ada', 'typed\r')).bytes_written, 6);
  assert.match((await within(stream.next(), 'a piece of output')).value, /t/);
  await stream.return();
  const input = use.openInputStream('ada');
  await within(input.waitUntilOpen(), 'the input stream to open');
  assert.equal((await within(input.send('more\r'), 'its ack')).bytes_written, 5);
  input.close();
  assert.equal((await use.resizePty('ada', 30, 90)).cols, 90);
  assert.equal((await use.snapshot('ada', 'ansi')).format, 'ansi');
  assert.equal(await use.getInboundDeliveryMode('ada'), 'auto_inject');
  assert.deepEqual(await use.setInboundDeliveryMode('ada', 'manual_flush'), { mode: 'manual_flush', flushed: 0 });
  const sent = await use.sendMessage({ to: 'ada', from: 'bob', text: 'held', priority: 1, data: { x: 1 } });
  assert.deepEqual(sent.targets, ['ada']);
  await until(async () => (await use.getPending('ada')).length === 1, 'it to be held');
  assert.deepEqual(await use.flushPending('ada'), { flushed: 1 });
  await heard('delivery_verified', 'ada');
  await assert.rejects(use.setModel('ada', 'm1'), { code: 'unsupported_operation', status: 400 });
  await use.subscribeChannels('ada', ['ops']);
  await use.subscribeChannels('ada', ['ops']);
  await use.unsubscribeChannels('ada', ['ops']);
  await heard('channel_unsubscribed', 'ada');
  assert.equal(seen.filter(({ kind }) => kind === 'channel_subscribed').length, 1, 'what is so already is told to nobody');
  assert.deepEqual((await use.getMetrics()).agents.map(({ name }) => name), ['ada', 'bob']);
  assert.equal((await use.getStatus()).agent_count, 2);
  assert.equal((await use.getCrashInsights()).health_score, 100);
  assert.equal((await use.renewLease()).renewed, true);
  assert.equal((await use.getConfig()).workspaceKey, broker.workspace_key);
  assert.ok(use.queryEvents({ kind: 'worker_ready' }).length >= 2);
  assert.equal(use.getLastEvent('worker_ready', 'bob').name, 'bob');
  assert.equal((await use.release('ada', 'done')).name, 'ada');
  await agent.waitForExit(10_000);

  stop();
  use.onBrokerExit(() => {})();
  use.disconnectEvents();
  await use.shutdown();
  assert.ok(isAlive(broker.pid), 'who only connected does not end a broker');
  use.disconnect();
  const methods = Object.getOwnPropertyNames(HarnessDriverClient.prototype).filter((name) => !PRIVATE.includes(name) && name !== 'brokerPid');
  assert.deepEqual(methods.filter((name) => !called.has(name)), []);
});

test('who starts a broker hears of its sudden end, and starts another one in its place that knows what was', async (t) => {
  const dir = folder(t);
  const start = () => HarnessDriverClient.spawn({
    binaryPath: PROGRAM, cwd: dir, brokerName: 'mine', binaryArgs: { persist: true },
    env: { PATH: process.env.PATH, HOME: dir, XDG_DATA_HOME: `${dir}/data` }, startupTimeoutMs: 15_000,
  });
  const first = await start();
  atEnd(t, () => first.shutdown());
  await first.spawnPty({ name: 'ada', cli: 'cat', restartPolicy: { enabled: true } });
  await first.setInboundDeliveryMode('ada', 'manual_flush');
  await first.sendMessage({ to: 'ada', from: 'bob', text: 'kept for later' });
  const ended = new Promise((ok) => { first.onBrokerExit(ok); });
  process.kill(first.brokerPid, 'SIGKILL');
  assert.equal((await within(ended, 'the news of its end')).signal, 'SIGKILL');

  const second = await start();
  const { brokerPid } = second;
  atEnd(t, () => second.shutdown());
  await until(async () => (await second.listAgents()).some(({ name, pid }) => name === 'ada' && pid), 'the agent to be back');
  assert.deepEqual((await second.getPending('ada')).map(({ body }) => body), ['kept for later']);
  const orderly = new Promise((ok) => { second.onBrokerExit(ok); });
  await second.shutdown();
  assert.deepEqual(await within(orderly, 'the end of the second').then(({ code, signal }) => [code, signal]), [0, null]);
  assert.ok(!isAlive(brokerPid));
});
