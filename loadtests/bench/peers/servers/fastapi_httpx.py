"""The proxy of many a tutorial: one client for all, the answer streamed."""

import sys

import httpx
import uvicorn
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from starlette.responses import StreamingResponse

app = FastAPI()
client: httpx.AsyncClient


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def proxy(request: Request) -> StreamingResponse:
    """Pass a request on, and its answer back."""
    url = httpx.URL(path=request.url.path, query=request.url.query.encode())
    asked = client.build_request(request.method, url, headers=request.headers.raw, content=await request.body())
    answer = await client.send(asked, stream=True)
    return StreamingResponse(
        answer.aiter_raw(), answer.status_code, dict(answer.headers), background=BackgroundTask(answer.aclose)
    )


if __name__ == "__main__":
    client = httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{sys.argv[2]}", timeout=None, limits=httpx.Limits(max_keepalive_connections=20)
    )
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", log_level="error", access_log=False)
