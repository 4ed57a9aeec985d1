// Actions: served by a program in another language that has nothing but `ws`, or by one that the operator configured.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { ended, folder, live, register, sidecar, startBroker, until, workspace, written } from './support.mjs';

/** Until an action is known to the workspace. */
function known(relay, name, yes = true) {
  return until(async () => {
    const [node] = await relay.nodes.list({ name: 'box' });
    return node.capabilities.some((capability) => capability.name === name) === yes;
  }, `${name} to be ${yes ? 'offered' : 'gone'}`);
}

test('a program with nothing but a WebSocket serves actions, and spawns and writes to agents from them', async (t) => {
  const dir = folder(t);
  const broker = await startBroker(t, dir);
  const relay = workspace(broker);
  await live(relay, broker.name);
  const lead = await register(t, relay, 'lead');
  const file = path.join(dir, 'made.txt');
  const { socket } = await sidecar(t, broker, {
    echo: (input) => ({ said: input.words }),
    fail: () => { throw new Error('not today'); },
    team: async (input, ask) => {
      const { name } = await ask('spawn_agent', { agent: { name: input.name, cli: `sh -c 'cat >> ${file}'` } });
      await ask('send_message', { to: name, text: 'welcome', from: 'team' });
      const { channels } = await ask('subscribe_channels', { name, channels: ['ops'] });
      assert.deepEqual(channels, ['general', 'ops']);
      assert.deepEqual((await ask('unsubscribe_channels', { name, channels: ['ops'] })).channels, ['general']);
      return { made: name, all: (await ask('list_agents', {})).agents.map((agent) => agent.name) };
    },
  });
  await known(relay, 'echo');
  const run = async (name, input) => {
    const { invocationId } = await lead.me.actions.invoke(name, input);
    return ended(lead.me, name, invocationId);
  };
  const echoed = await run('echo', { words: 'hello' });
  assert.deepEqual([echoed.status, echoed.output], ['completed', { said: 'hello' }]);
  const failed = await run('fail', {});
  assert.deepEqual([failed.status, failed.error], ['failed', 'not today']);
  assert.deepEqual((await run('team', { name: 'ada' })).output, { made: 'ada', all: ['ada'] });
  await written(file, 'welcome');
  socket.terminate();
  await known(relay, 'echo', false);
  await known(relay, 'spawn:claude');
});

test('a program that vanishes while it works gives its work back, and does it when it is there again', async (t) => {
  const broker = await startBroker(t, folder(t));
  const relay = workspace(broker);
  await live(relay, broker.name);
  const lead = await register(t, relay, 'lead');
  let begun;
  const first = await sidecar(t, broker, { slow: () => new Promise(() => { begun = true; }) });
  await known(relay, 'slow');
  const { invocationId } = await lead.me.actions.invoke('slow', {});
  await until(() => begun, 'the handler to begin');
  first.socket.terminate();
  await known(relay, 'slow', false);
  await sidecar(t, broker, { slow: () => ({ done: true }) });
  const over = await ended(lead.me, 'slow', invocationId);
  assert.deepEqual([over.status, over.output], ['completed', { done: true }]);
});

test('an action that the operator configured runs a program with the input on stdin', async (t) => {
  const dir = folder(t);
  fs.writeFileSync(path.join(dir, 'relay-broker.toml'), `
[action.upper]
command = ["sh", "-c", "tr a-z A-Z"]

[action.broken]
command = ["sh", "-c", "echo it is broken >&2; exit 3"]

[harness.special]
command = "sh"
args = ["-c", "exec cat"]
`);
  const broker = await startBroker(t, dir);
  const relay = workspace(broker);
  await live(relay, broker.name);
  await known(relay, 'upper');
  await known(relay, 'spawn:special');
  const lead = await register(t, relay, 'lead');
  const run = async (name, input) => ended(lead.me, name, (await lead.me.actions.invoke(name, input)).invocationId);
  assert.deepEqual((await run('upper', { a: 'b' })).output, { A: 'B' });
  assert.equal((await run('broken', {})).error, 'exit code 3: it is broken');
  const spawned = await run('spawn', { capability: 'spawn:special', name: 'w1' });
  assert.deepEqual(spawned.output, { spawned: true, name: 'w1' });
  const { agents } = await broker.api('GET', '/api/spawned');
  assert.deepEqual([agents[0].cli, agents[0].command], ['special', 'sh -c exec cat']);
});

test('the roster shows load and agents as they change, within a second', async (t) => {
  const broker = await startBroker(t, folder(t), { args: ['--max-agents', '4'] });
  const relay = workspace(broker);
  await live(relay, broker.name);
  const shows = async (activeAgents, load) => {
    const since = Date.now();
    await until(async () => {
      const [node] = await relay.nodes.list({ name: broker.name });
      return node.activeAgents === activeAgents && node.load === load && node.maxAgents === 4;
    }, `${activeAgents} agents and a load of ${load}`, 1000);
    return Date.now() - since;
  };
  const spawn = (name, command, more = {}) => broker.api('POST', '/api/spawn', { name, harness_config: { command: 'sh', args: ['-c', command] }, ...more });
  await spawn('ada', 'exec cat');
  await shows(1, 0.25);
  await spawn('bob', 'sleep 0.3; exit 1', { restart_policy: { cooldown_ms: 400, max_restarts: 1 } });
  await shows(2, 0.5);
  await shows(1, 0.25);
  await shows(2, 0.5);
  await shows(1, 0.25);
  await broker.api('DELETE', '/api/spawned/ada');
  await shows(0, 0);
});
