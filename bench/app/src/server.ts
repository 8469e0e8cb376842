import http from "http";
import express from "express";
import { Pool } from "pg";
import pino from "pino";
import { WebSocketServer } from "ws";
import { release } from "./release";

const log = pino();
const app = express();
const pool = new Pool();

app.use(express.json());
app.get("/", (_request, response) => response.json({ release }));
app.get("/rows", async (_request, response) => {
  const found = await pool.query("select now()");
  response.json(found.rows);
});

const server = http.createServer(app);
new WebSocketServer({ server }).on("connection", (socket) => socket.send(release));
server.listen(8080, () => log.info({ release }, "listening"));
