// The command line that people of agent-relay have in their fingers, with this program in the place of its broker.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { atEnd, ended, folder, isAlive, register, until, workspace } from '../support.mjs';
import { MODULES, command, connection, done, endLater, project, stays, terminal } from './support.mjs';

/** A broker that `local up --background` has started, stopped at the end. */
async function up(t, place, ...args) {
  await done(place, 'local', 'up', '--background', ...args);
  const broker = connection(place);
  atEnd(t, async () => {
    if (isAlive(broker.pid)) process.kill(broker.pid, 'SIGTERM');
    await until(() => !isAlive(broker.pid), 'the end of the broker');
  });
  // The command leaves a process behind that serves the node, also after `down`.
  const file = path.join(place.state, 'fleet-node.json');
  const node = await until(() => JSON.parse(fs.readFileSync(file, 'utf8')), 'the node of `local up`');
  endLater(t, node.pid);
  return broker;
}

const names = async (place) => JSON.parse(await done(place, 'local', 'agent', 'list')).map(({ name }) => name).sort();

test('a broker is started in the background, looked at, given agents, and stopped', async (t) => {
  const place = project(folder(t));
  fs.writeFileSync(path.join(place.at, 'teams.json'), JSON.stringify({
    team: 'crew', autoSpawn: true, agents: [{ name: 'lead', cli: 'cat' }, { name: 'hand', cli: 'cat' }],
  }));
  const broker = await up(t, place);
  assert.match(await done(place, 'local', 'status', '--wait-for', '20'), /Status: RUNNING/);
  assert.equal(fs.statSync(place.state).mode & 0o777, 0o700);
  await until(async () => (await names(place)).length === 2, 'the agents of teams.json');
  assert.deepEqual(await names(place), ['hand', 'lead']);

  assert.match(await done(place, 'local', 'agent', 'spawn', 'cat', '--name', 'ada', '--channels', 'ops'), /Spawned ada/);
  const [ada] = JSON.parse(await done(place, 'local', 'agent', 'list')).filter(({ name }) => name === 'ada');
  assert.deepEqual([ada.cli, ada.channels], ['cat', ['ops']]);
  const metrics = JSON.parse(await done(place, 'local', 'metrics', '--agent', 'ada'));
  assert.ok(metrics.agents[0].memory_bytes > 0);
  // Typed where a program has a command for it, and else refused with the reason.
  const model = await command(place, 'local', 'agent', 'set-model', 'ada', 'some-model');
  assert.match(`${model.out}${model.err}`, /nothing is known of how 'cat' changes its model/);

  const message = (...args) => done(place, 'local', 'agent', 'message', ...args);
  assert.equal(JSON.parse(await message('hold', 'ada')).mode, 'manual_flush');
  await broker.call('POST', '/api/send', { to: 'ada', text: 'one' });
  assert.equal(JSON.parse(await message('flush', 'ada')).flushed, 1);
  await broker.call('POST', '/api/send', { to: 'ada', text: 'two' });
  assert.deepEqual(JSON.parse(await message('auto', 'ada')), { name: 'ada', mode: 'auto_inject', flushed: 1 });

  const fleet = JSON.parse(await done(place, 'fleet', 'status'));
  assert.deepEqual([fleet.broker.running, fleet.sidecar.connected], [true, true]);
  const access = ['--workspace-key', broker.workspace_key, '--base-url', broker.engine_url];
  assert.match(await done(place, 'fleet', 'nodes', ...access), /project/);

  assert.match(await done(place, 'local', 'agent', 'release', 'ada'), /Released ada/);
  assert.deepEqual(await names(place), ['hand', 'lead']);
  assert.match(await done(place, 'local', 'down'), /Stopped/);
  assert.ok(!isAlive(broker.pid));
});

test('an agent is looked at, driven and typed to in a terminal, and a new one is attached at once', async (t) => {
  const place = project(folder(t));
  const broker = await up(t, place, '--no-spawn');
  await done(place, 'local', 'agent', 'spawn', 'cat', '--name', 'ada');
  const screen = terminal(t, place);
  const attach = (mode) => screen.run(mode, 'local', 'agent', 'attach', 'ada', '--mode', mode);
  const mode = async () => (await broker.call('GET', '/api/spawned/ada/delivery-mode')).mode;

  await broker.call('POST', '/api/input/ada', { data: 'before anybody looked\r' });
  await attach('view');
  await screen.shows('view', /before anybody looked/);
  await broker.call('POST', '/api/send', { to: 'ada', from: 'lead', text: 'seen while it comes' });
  await screen.shows('view', /seen while it comes/);

  await attach('drive');
  await screen.shows('drive', /pending=0/);
  assert.equal(await mode(), 'manual_flush');
  await screen.type('drive', 'typed by a driver', 'Enter');
  await screen.shows('view', /typed by a driver/);
  await broker.call('POST', '/api/send', { to: 'ada', from: 'lead', text: 'kept for later' });
  await screen.shows('drive', /pending=1/);
  await screen.type('drive', 'C-c');
  await screen.shows('drive', /ended with 0/);
  await until(async () => await mode() === 'auto_inject', 'the mode that was before');
  await screen.shows('view', /kept for later/);

  await attach('passthrough');
  await screen.shows('passthrough', /passthrough ada/);
  await screen.type('passthrough', 'typed beside messages', 'Enter');
  await screen.shows('view', /typed beside messages/);
  await broker.call('POST', '/api/send', { to: 'ada', from: 'lead', text: 'comes all the same' });
  await screen.shows('passthrough', /comes all the same/);
  await screen.type('passthrough', 'C-c');
  await screen.shows('passthrough', /ended with 0/);
  await screen.type('view', 'C-c');
  await screen.shows('view', /ended with/);

  await screen.run('new', 'local', 'agent', 'new', 'cat', '--name', 'bob', '--mode', 'drive');
  await screen.shows('new', /drive bob/);
  await screen.type('new', 'hello bob', 'Enter');
  await screen.shows('new', /hello bob/);
  await screen.type('new', 'C-c');
  assert.deepEqual((await broker.call('GET', '/api/spawned')).agents.map(({ name }) => name).sort(), ['ada', 'bob']);
});

test('what an agent prints is followed from the command line', async (t) => {
  const place = project(folder(t));
  const broker = await up(t, place, '--no-spawn');
  await done(place, 'local', 'agent', 'spawn', 'cat', '--name', 'ada');
  const tail = stays(t, place, 'local', 'tail', '--agent', 'ada');
  let count = 0;
  // Until it listens: what was printed before is not its business.
  await Promise.race([
    tail.said(/line-\d+/),
    (async () => {
      while (tail.child.exitCode === null && count < 600) {
        await broker.call('POST', '/api/input/ada', { data: `line-${count += 1}\r` });
        await new Promise((ok) => { setTimeout(ok, 100); });
      }
    })(),
  ]);
  await tail.said(/line-\d+/);
});

test('a definition file is served, and its action answers who calls it', async (t) => {
  const place = project(folder(t));
  fs.symlinkSync(MODULES, path.join(place.at, 'node_modules'));
  fs.writeFileSync(path.join(place.at, 'node.mjs'), `
    import { action, defineNode } from '@agent-relay/fleet';
    export default defineNode({
      name: 'calc',
      capabilities: { add: action({}, ({ a, b }) => ({ sum: a + b })) },
    });`);
  const serving = stays(t, place, 'fleet', 'serve', 'node.mjs');
  const file = path.join(place.state, 'connection.json');
  await until(() => fs.existsSync(file) || serving.child.exitCode !== null, 'a broker', 60_000);
  assert.equal(serving.child.exitCode, null, serving.printed());
  const broker = connection(place);
  atEnd(t, async () => {
    await serving.end();
    if (isAlive(broker.pid)) process.kill(broker.pid, 'SIGTERM');
    await until(() => !isAlive(broker.pid), 'the end of the broker');
  });
  const relay = workspace(broker);
  const { me } = await register(t, relay, 'ada');
  await until(async () => (await relay.actions.list()).some(({ name }) => name === 'add'), 'the action', 60_000);
  const sum = await ended(me, 'add', (await me.actions.invoke('add', { a: 2, b: 3 })).invocationId);
  assert.deepEqual([sum.status, sum.output], ['completed', { sum: 5 }]);
});
