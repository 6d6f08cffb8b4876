"""Folds registry events into versioned snapshots: conversion, fold and view are pure, the process is not."""
