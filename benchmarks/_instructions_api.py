"""The FastAPI application of instructions.py: one route that checks a pydantic model and answers another."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


class Priced(BaseModel):
    name: str
    total: float


app = FastAPI()


@app.post("/items")
async def price(item: Item) -> Priced:
    return Priced(name=item.name, total=item.price * 2)


@app.get("/pid", response_class=PlainTextResponse)
async def pid() -> str:
    return str(os.getpid())
