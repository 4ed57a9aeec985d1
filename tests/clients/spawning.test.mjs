// What people can do with nodes from afar.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';

import { HarnessDriverClient } from '@agent-relay/harness-driver';

import { PATIENCE, atEnd, ended, folder, live, register, startBroker, until, workspace } from './support.mjs';

test('a broker is found by what it can start, live and with its handlers live', async (t) => {
  const broker = await startBroker(t, folder(t));
  const relay = workspace(broker);
  await live(relay, broker.name);
  const nodes = await relay.nodes.list({ capability: 'spawn:claude' });
  assert.deepEqual(
    nodes.map(({ name, role, kind, status, live: isLive, handlersLive }) => ({ name, role, kind, status, isLive, handlersLive })),
    [{ name: broker.name, role: 'broker', kind: 'ws', status: 'online', isLive: true, handlersLive: true }],
  );
  const names = nodes[0].capabilities.map((capability) => capability.name);
  assert.ok(names.includes('spawn:claude') && names.includes('spawn:cat'), `${names}`);
  assert.deepEqual(await relay.nodes.list({ capability: 'spawn:nothing-of-the-kind' }), []);
  assert.equal((await relay.nodes.get(broker.name)).id, nodes[0].id);
});

test('an agent starts another one on a named node, talks about it while it runs, and ends it', async (t) => {
  const broker = await startBroker(t, folder(t));
  const relay = workspace(broker);
  const node = await live(relay, broker.name);
  const lead = await register(t, relay, 'lead');

  const asked = await lead.me.actions.invoke('spawn', { name: 'w2', cli: 'cat', targetNode: broker.name });
  assert.equal(asked.handlerNodeId, node.id);
  const spawned = await ended(lead.me, 'spawn', asked.invocationId);
  assert.deepEqual([spawned.status, spawned.error, spawned.callerName], ['completed', null, 'lead']);
  assert.deepEqual(spawned.output, { spawned: true, name: 'w2' });
  const { agents } = await broker.api('GET', '/api/spawned');
  assert.deepEqual(agents.map(({ name, cli }) => [name, cli]), [['w2', 'cat']]);
  const shown = await relay.agents.get('w2');
  assert.notEqual(shown.status, 'offline');

  const release = await lead.me.actions.invoke('release', { name: 'w2' });
  const released = await ended(lead.me, 'release', release.invocationId);
  assert.deepEqual([released.status, released.output], ['completed', { released: true, name: 'w2' }]);
  await until(async () => (await broker.api('GET', '/api/spawned')).agents.length === 0, 'w2 to be gone');
  assert.equal((await relay.agents.get('w2')).status, 'offline');
});

test('somebody with the workspace key ends an agent by its name', async (t) => {
  const broker = await startBroker(t, folder(t), { agents: { ada: 'cat' } });
  const relay = workspace(broker);
  const lead = await register(t, relay, 'lead');
  const { invocationId } = await relay.agents.release({ name: 'ada', reason: 'done' });
  assert.equal((await ended(lead.me, 'release', invocationId)).status, 'completed');
  await assert.rejects(relay.agents.release({ name: 'nobody' }), { code: 'not_found' });
});

test('a spawn that cannot be says why', async (t) => {
  const broker = await startBroker(t, folder(t), {
    agents: { ada: 'cat' }, env: { AGENT_RELAY_NODE_HARNESSES: 'cat,no-such-program' },
  });
  const relay = workspace(broker);
  await live(relay, broker.name);
  const lead = await register(t, relay, 'lead');
  const spawn = (input) => lead.me.actions.invoke('spawn', { targetNode: broker.name, ...input });

  const missing = await spawn({ name: 'w1', cli: 'no-such-program' });
  const failed = await ended(lead.me, 'spawn', missing.invocationId);
  assert.equal(failed.status, 'failed');
  assert.match(failed.error, /^spawn_failed/);

  const taken = await ended(lead.me, 'spawn', (await spawn({ name: 'ada', cli: 'cat' })).invocationId);
  assert.deepEqual([taken.status, taken.error], ['failed', 'spawn_agent_name_in_use']);

  await assert.rejects(spawn({ name: 'w2', cli: 'cat', targetNode: 'no-such-box' }), { statusCode: 404, rawCode: 'node_not_found' });
  await assert.rejects(spawn({ name: 'w2', cli: 'aider' }), { statusCode: 409, rawCode: 'capability_mismatch' });
  await assert.rejects(relay.client.post('/v1/actions/spawn/invoke', { input: {} }), { statusCode: 403, rawCode: 'agent_token_required' });
});

test('an agent that is started for its task alone leaves when it is done, and one by the name of a known program is told its model', async (t) => {
  const dir = folder(t);
  const bin = path.join(dir, 'bin');
  fs.mkdirSync(bin);
  for (const name of ['claude', 'aider']) fs.writeFileSync(path.join(bin, name), '#!/bin/sh\nprintf "%s\\n" "$@"\nexec cat\n', { mode: 0o755 });
  const broker = await startBroker(t, dir);
  const client = HarnessDriverClient.connect({ connectionPath: broker.file });
  atEnd(t, () => client.disconnect());
  client.connectEvents();
  const claude = await client.spawnPty({ name: 'ada', cli: path.join(bin, 'claude'), model: 'opus', args: ['--verbose'] });
  const words = ['--session-id', claude.sessionId, '--model', 'opus', '--verbose'];
  await until(async () => (await client.snapshot('ada')).screen.includes(words.join('\n')), 'what it was told');
  await client.release('ada');
  await client.spawnPty({ name: 'bob', cli: path.join(bin, 'aider') });
  assert.deepEqual(await client.setModel('bob', 'haiku').then(({ name, model, success }) => [name, model, success]), ['bob', 'haiku', true]);
  await until(async () => /^\/model haiku$/m.test((await client.snapshot('bob')).screen), 'the command to be typed');
  assert.equal((await client.listAgents())[0].model, 'haiku');
  await client.release('bob');

  const once = await client.spawnPty({ name: 'once', cli: 'cat', task: 'count the ships', spawnMode: 'task_exit', idleThresholdSecs: 1 });
  assert.equal((await once.waitForExit(PATIENCE)).reason, 'exited');
  await until(async () => (await client.listAgents()).length === 0, 'nobody to be left');
  const { warning } = await broker.api('POST', '/api/spawn', { name: 'eve', cli: 'cat', continueFrom: 'nobody' });
  assert.match(warning, /nobody/);
});
