// Who comes from agent-relay-broker brings along what its files still hold.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';

import { PROGRAM, atEnd, folder, inOrder, isAlive, startEngine, until, within, written } from '../support.mjs';
import { UPSTREAM, connection, project } from './support.mjs';

/** A broker of either kind in the project, once its API is there. */
async function start(t, place, program, engine) {
  const child = spawn(program, ['init', '--instance-name', 'shop', '--channels', 'general', '--persist'], {
    cwd: place.at,
    env: { ...place.env, RELAYCAST_BASE_URL: engine.url, RELAY_WORKSPACE_KEY: engine.key },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk) => { said += chunk; });
  const exited = new Promise((ok) => { child.once('exit', ok); });
  atEnd(t, async () => {
    if (child.exitCode === null) child.kill('SIGTERM');
    await within(exited, 'the end of the broker').catch(() => child.kill('SIGKILL'));
  });
  const lines = createInterface({ input: child.stdout });
  await within(new Promise((ok) => { lines.once('line', ok); }), () => `the API of ${program}: ${said}`, 60_000);
  // Until the engine knows the node everything is answered by 503.
  const broker = await until(async () => {
    const found = connection(place);
    await found.call('GET', '/api/session');
    return found;
  }, 'the broker to be ready', 60_000);
  return { ...broker, child, exited, said: () => said };
}

test('the mail of a broker that was killed in a burst is delivered once, in order, by the one in its place', async (t) => {
  if (!fs.existsSync(UPSTREAM)) return t.skip('agent-relay-broker is not to be had for this machine');
  const dir = folder(t);
  const place = project(dir);
  const engine = await startEngine(t, dir);
  const theirs = await start(t, place, UPSTREAM, engine);
  const node = (await theirs.call('GET', '/api/session'));
  await theirs.call('POST', '/api/spawn', { name: 'ada', cli: 'cat', channels: ['general'] });
  for (let number = 1; number <= 30; number += 1) {
    await theirs.call('POST', '/api/send', { to: 'ada', from: 'lead', text: `burst-${number}-of-30` });
  }
  theirs.child.kill('SIGKILL');
  await theirs.exited;
  const file = path.join(place.state, 'pending-shop.json');
  const held = JSON.parse(fs.readFileSync(file, 'utf8')).sort((a, b) => a.queued_at_ms - b.queued_at_ms).map(({ delivery }) => delivery.body);
  assert.ok(held.length > 10, `only ${held.length} messages are in the file`);
  // Beside it what cannot be read.
  fs.writeFileSync(path.join(place.state, 'pending-torn.json'), '[{"worker_name":');
  fs.writeFileSync(path.join(place.state, 'dead-letters-shop.json'), '{"version":99}');

  const ours = await start(t, place, PROGRAM, engine);
  assert.match(ours.said(), new RegExp(`${held.length} messages, 0 dead letters and 1 agents of an earlier agent-relay-broker`));
  assert.match(ours.said(), /pending-torn\.json of an earlier broker is not taken over/);
  assert.match(ours.said(), /dead-letters-shop\.json of an earlier broker is not taken over/);
  for (const stays of ['pending-torn.json', 'dead-letters-shop.json', 'imported/pending-shop.json', 'imported/state-shop.json']) {
    assert.ok(fs.existsSync(path.join(place.state, stays)), stays);
  }
  assert.ok(!fs.existsSync(file));
  const seed = fs.readFileSync(path.join(place.env.XDG_DATA_HOME, 'agent-relay/machine-id'), 'utf8').trim();
  assert.match(seed, /^node_/);
  const { node_id: id } = await ours.call('GET', '/api/session');
  assert.deepEqual(fs.readdirSync(path.join(place.env.XDG_DATA_HOME, 'agent-relay/node-tokens')), [`${id}.json`], 'the node is the one that was');
  assert.equal(node.workspace_key, engine.key);

  const read = path.join(dir, 'read.txt');
  await ours.call('POST', '/api/spawn', { name: 'ada', cli: `sh -c 'cat >> ${read}'` });
  await ours.call('POST', '/api/send', { to: 'ada', from: 'lead', text: 'the last one' });
  const words = held.map((body) => `${body}`);
  assert.deepEqual(inOrder(await written(read, 'the last one'), words), words);

  // The next start finds nothing to take over.
  ours.child.kill('SIGTERM');
  await within(ours.exited, 'the end of the broker');
  const again = await start(t, place, PROGRAM, engine);
  assert.doesNotMatch(again.said(), /messages, .* of an earlier agent-relay-broker/);
  assert.deepEqual((await again.call('GET', '/api/status')).pending_delivery_count, 0);
  assert.ok(isAlive(again.child.pid));
});
